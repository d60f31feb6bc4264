//! Frames: who owns each frame of memory, who else holds it, and which are free.
//!
//! A frame in use is held by its owner and by everybody who mapped it: a foreign mapping, a grant, a
//! registered page. [`Frames`] frees it when the last lets go, so that a domain's memory outlives the
//! domain for as long as somebody can reach it. It never touches the memory itself: an [`Allocation`]
//! says whether its frames hold old data, and the caller scrubs them before a guest can see them.
//!
//! What a guest can make the hypervisor take for it, its grant table and its translation tables, is
//! set aside when the limit is set: such frames stay free but nobody else gets them.

mod buddy;
mod owner;

use crate::{
    addr::{Gfn, Mfn},
    ids::{DomId, DomMap},
};
use buddy::{Buddy, MAX_ORDER};
use hypercall_abi::errno::Errno;
use owner::{Frame, State, Table};

pub use buddy::Contents;
pub use owner::Account;

/// The largest block that can be asked for, as a power of two frames: 1 GiB.
pub const LARGEST_ORDER: u8 = MAX_ORDER;

/// Why frames were refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FramesError {
    /// No free block is large enough, or the free ones are promised to others.
    NoMemory,
    /// The domain would own more than its limit.
    OverLimit,
    /// The domain has no account, or is being destroyed.
    NoDomain,
    /// No domain's frame, another domain's, or no longer held by its owner.
    NotOwned,
    /// Too many hold the frame already.
    TooMany,
    /// A block larger than there are, or an empty one.
    BadOrder,
    /// A claim on top of another one, or smaller than what is owned already.
    BadClaim,
}

impl From<FramesError> for Errno {
    fn from(error: FramesError) -> Self {
        match error {
            FramesError::NoMemory | FramesError::OverLimit => Self::ENOMEM,
            FramesError::NoDomain => Self::ESRCH,
            FramesError::NotOwned | FramesError::BadOrder | FramesError::BadClaim => Self::EINVAL,
            FramesError::TooMany => Self::EBUSY,
        }
    }
}

/// A block that was just taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "the frames stay allocated and mapped nowhere"]
pub struct Allocation {
    /// Its first frame.
    pub first: Mfn,
    /// It has 2^`order` frames.
    pub order: u8,
    /// Whether the frames from `scrubbed` on have to be scrubbed before use.
    pub contents: Contents,
    /// How many frames, from the first on, have been scrubbed meanwhile.
    pub scrubbed: u64,
}

impl Allocation {
    /// Returns how many frames it has.
    pub const fn count(&self) -> u64 {
        1 << self.order
    }

    /// Returns the next frame to be scrubbed.
    pub const fn next_to_scrub(&self) -> Option<Mfn> {
        match self.contents {
            Contents::Dirty if self.scrubbed < self.count() => {
                self.first.checked_add(self.scrubbed)
            }
            Contents::Dirty | Contents::Clean => None,
        }
    }
}

/// What letting go of frames led to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "a dying domain whose last frame this was is never buried unless somebody is told"]
pub enum Put {
    /// Somebody still holds some of them, or others of the owner's.
    Kept,
    /// At least one was freed.
    Freed,
    /// The last frame of this dying domain was freed: nothing of its memory is left.
    LastOf(DomId),
}

impl Put {
    /// Combines the outcomes of two releases by the same owner.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::LastOf(dom), _) | (_, Self::LastOf(dom)) => Self::LastOf(dom),
            (Self::Freed, _) | (_, Self::Freed) => Self::Freed,
            (Self::Kept, Self::Kept) => Self::Kept,
        }
    }
}

/// Who a frame belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Owner {
    /// Nobody: free, or no memory that is managed here.
    Nobody,
    /// The hypervisor.
    Hypervisor,
    /// A domain: its memory.
    Domain(DomId),
    /// A page of the hypervisor's that this domain may map.
    SharedWith(DomId),
}

/// All frames of the machine.
#[derive(Debug)]
pub struct Frames {
    table: Table,
    buddy: Buddy,
    accounts: DomMap<Account>,
    claimed: u64,
    /// The sum of what all accounts have set aside.
    set_aside: u64,
    managed: u64,
}

impl Frames {
    /// Makes a table for `banks` of (first frame, count); all of it is nobody's until [`Frames::add`].
    ///
    /// Takes 16 bytes of heap a frame, once.
    pub fn new(banks: impl IntoIterator<Item = (Mfn, u64)>) -> Self {
        Self {
            table: Table::new(banks),
            buddy: Buddy::new(),
            accounts: DomMap::default(),
            claimed: 0,
            set_aside: 0,
            managed: 0,
        }
    }

    /// Returns the heap that a table of `frames` frames takes, in bytes.
    pub const fn table_bytes(frames: u64) -> u64 {
        frames * size_of::<Frame>() as u64
    }

    /// Gives `count` frames from `first` on to the allocator, dirty; frames in no bank are left out.
    ///
    /// The work is by block, not by frame.
    pub fn add(&mut self, first: Mfn, count: u64) {
        let (start, end) = (first.number(), first.number().saturating_add(count));
        for index in 0..self.table.banks().len() {
            let Some(bank) = self.table.banks().get(index).copied() else { return };
            let (start, end) = (start.max(bank.base), end.min(bank.base + bank.len));
            if start < end {
                self.buddy.add(&mut self.table, start, end - start, Contents::Dirty);
                self.managed += end - start;
            }
        }
    }

    /// Returns how many frames the allocator was given in all.
    pub const fn managed(&self) -> u64 {
        self.managed
    }

    /// Returns how many frames are free.
    pub const fn free(&self) -> u64 {
        self.buddy.free()
    }

    /// Returns how many of the free frames still have to be scrubbed.
    pub const fn dirty(&self) -> u64 {
        self.buddy.dirty()
    }

    /// Returns how many free frames are promised to domains.
    pub const fn claimed(&self) -> u64 {
        self.claimed
    }

    /// Returns how many free frames are set aside for the tables of domains.
    pub const fn set_aside(&self) -> u64 {
        self.set_aside
    }

    /// Returns how many free frames are set aside for nobody's tables.
    pub const fn available(&self) -> u64 {
        self.free().saturating_sub(self.set_aside)
    }

    /// Returns the highest frame there is memory for.
    pub fn max_mfn(&self) -> Mfn {
        let ends = self.table.banks().iter().map(|bank| bank.base + bank.len);
        Mfn::new(ends.max().unwrap_or(0).saturating_sub(1))
    }

    /// Opens an account for a new domain, which may own up to `limit` frames, and sets `grants` frames
    /// aside for its grant table.
    ///
    /// Refuses with [`FramesError::NoMemory`] if there are not as many, or no heap for the account.
    pub fn open(&mut self, dom: DomId, limit: u64, grants: u64) -> Result<(), FramesError> {
        if self.available().saturating_sub(self.claimed) < grants {
            return Err(FramesError::NoMemory);
        }
        self.accounts.try_reserve(1).map_err(|_| FramesError::NoMemory)?;
        self.accounts.insert(dom, Account { limit, grants, ..Account::default() });
        self.set_aside += grants;
        Ok(())
    }

    /// Closes the account of a domain of which no frame is left.
    pub fn close(&mut self, dom: DomId) {
        if let Some(account) = self.accounts.remove(&dom) {
            self.claimed -= account.claimed;
            self.set_aside -= account.set_aside();
        }
    }

    /// Sets `size` frames aside for the translation tables of `dom`, those in use included.
    pub fn set_pool(&mut self, dom: DomId, size: u64) -> Result<(), FramesError> {
        let account = self.accounts.get(&dom).ok_or(FramesError::NoDomain)?;
        let more = size.saturating_sub(account.pool.max(account.tables));
        if self.available().saturating_sub(self.claimed) < more {
            return Err(FramesError::NoMemory);
        }
        self.change(dom, |account| account.pool = size);
        Ok(())
    }

    /// Changes an account, and with it the sum of what is set aside.
    fn change(&mut self, dom: DomId, change: impl FnOnce(&mut Account)) {
        if let Some(account) = self.accounts.get_mut(&dom) {
            let before = account.set_aside();
            change(account);
            self.set_aside = self.set_aside - before + account.set_aside();
        }
    }

    /// Returns the account of `dom`.
    pub fn account(&self, dom: DomId) -> Option<Account> {
        self.accounts.get(&dom).copied()
    }

    /// Changes how many frames `dom` may own; fewer than it does is no error.
    pub fn set_limit(&mut self, dom: DomId, limit: u64) -> Result<(), FramesError> {
        self.accounts.get_mut(&dom).ok_or(FramesError::NoDomain)?.limit = limit;
        Ok(())
    }

    /// Marks `dom` as being destroyed: it gets no more memory. Tells if it has none.
    ///
    /// A block of it that was being scrubbed is freed.
    pub fn condemn(&mut self, dom: DomId) -> Put {
        let Some(account) = self.accounts.get_mut(&dom) else { return Put::Kept };
        account.dying = true;
        self.claimed -= core::mem::take(&mut account.claimed);
        self.set_aside -= account.set_aside();
        (account.grants, account.pool) = (0, 0);
        match account.parked.take() {
            Some(block) => self.release(block.first, block.count()),
            None if account.total == 0 && account.shared == 0 => Put::LastOf(dom),
            None => Put::Kept,
        }
    }

    /// Promises frames to `dom`, so that it will own `total` of them; 0 takes the promise back.
    pub fn claim_total(&mut self, dom: DomId, total: u64) -> Result<(), FramesError> {
        let unclaimed = self.available().saturating_sub(self.claimed);
        let account = self.accounts.get_mut(&dom).ok_or(FramesError::NoDomain)?;
        if total == 0 {
            self.claimed -= core::mem::take(&mut account.claimed);
            return Ok(());
        }
        if account.claimed != 0 || total > account.limit || account.dying {
            return Err(FramesError::BadClaim);
        }
        let more = total.checked_sub(account.total).ok_or(FramesError::BadClaim)?;
        if more > unclaimed {
            return Err(FramesError::NoMemory);
        }
        account.claimed = more;
        self.claimed += more;
        Ok(())
    }

    /// Takes a block of 2^`order` frames for `dom`, wholly below frame `limit` if there is one.
    pub fn alloc_for(
        &mut self,
        dom: DomId,
        order: u8,
        limit: Option<Mfn>,
    ) -> Result<Allocation, FramesError> {
        if order > MAX_ORDER {
            return Err(FramesError::BadOrder);
        }
        let count = 1 << order;
        self.check(dom, count)?;
        let allocation = self.take(order, limit)?;
        self.enter(dom, allocation.first, count);
        Ok(allocation)
    }

    /// Takes exactly the `count` frames from `first` on for `dom`, dirty; all must be free.
    pub fn alloc_exactly(&mut self, dom: DomId, first: Mfn, count: u64) -> Result<(), FramesError> {
        self.check(dom, count)?;
        self.carve(first, count)?;
        self.enter(dom, first, count);
        Ok(())
    }

    /// Takes exactly the `count` frames from `first` on out of the allocator, for good.
    pub fn reserve(&mut self, first: Mfn, count: u64) -> Result<(), FramesError> {
        self.carve(first, count)
    }

    /// Returns the lowest free run of 2^`order` frames below frame `limit`. Slow: for boot.
    pub fn lowest(&self, order: u8, limit: Option<Mfn>) -> Option<Mfn> {
        let limit = limit.map_or(u64::MAX, Mfn::number);
        let order = (order <= MAX_ORDER).then_some(order)?;
        self.buddy.lowest(&self.table, order, limit).map(|block| Mfn::new(block.first))
    }

    /// Takes a page of the hypervisor's that `dom` may map; it is no part of the domain's memory.
    ///
    /// It comes from what is set aside for the domain's grant table while that lasts.
    pub fn alloc_shared(&mut self, dom: DomId) -> Result<Allocation, FramesError> {
        let allocation = self.take_for_grants(dom)?;
        if let Some(account) = self.accounts.get_mut(&dom) {
            account.shared += 1;
        }
        self.fill(allocation.first, 1, Frame::taken(dom, State::Shared));
        Ok(allocation)
    }

    /// Takes a frame that only the hypervisor uses, for the grant table of `dom`; free it by
    /// [`Frames::free_hypervisor`].
    pub fn alloc_for_grants(&mut self, dom: DomId) -> Result<Allocation, FramesError> {
        let allocation = self.take_for_grants(dom)?;
        self.fill(allocation.first, 1, Frame::taken(DomId::XEN, State::Hypervisor));
        Ok(allocation)
    }

    /// Takes a frame from what is set aside for the grant table of `dom`, else from what is for nobody.
    fn take_for_grants(&mut self, dom: DomId) -> Result<Allocation, FramesError> {
        let account = self.accounts.get(&dom).filter(|account| !account.dying);
        let own = account.ok_or(FramesError::NoDomain)?.grants > 0;
        if !own && self.available() == 0 {
            return Err(FramesError::NoMemory);
        }
        let allocation = self.take(0, None)?;
        self.change(dom, |account| account.grants = account.grants.saturating_sub(1));
        Ok(allocation)
    }

    /// Takes a frame for a translation table of `dom`, from its pool while that lasts; free it by
    /// [`Frames::free_table`].
    pub fn alloc_table(&mut self, dom: DomId) -> Result<Allocation, FramesError> {
        let account = self.accounts.get(&dom).ok_or(FramesError::NoDomain)?;
        if account.tables >= account.pool && self.available() == 0 {
            return Err(FramesError::NoMemory);
        }
        let allocation = self.take(0, None)?;
        self.change(dom, |account| account.tables += 1);
        self.fill(allocation.first, 1, Frame::taken(DomId::XEN, State::Hypervisor));
        Ok(allocation)
    }

    /// Frees a frame of [`Frames::alloc_table`].
    pub fn free_table(&mut self, dom: DomId, table: Mfn) {
        self.free_hypervisor(table, 1);
        self.change(dom, |account| account.tables = account.tables.saturating_sub(1));
    }

    /// Takes a block of 2^`order` frames for the hypervisor itself.
    pub fn alloc_hypervisor(&mut self, order: u8) -> Result<Allocation, FramesError> {
        if order > MAX_ORDER {
            return Err(FramesError::BadOrder);
        }
        if self.available() < 1 << order {
            return Err(FramesError::NoMemory);
        }
        let allocation = self.take(order, None)?;
        self.fill(allocation.first, 1 << order, Frame::taken(DomId::XEN, State::Hypervisor));
        Ok(allocation)
    }

    /// Frees frames of the hypervisor itself; any others among them are left alone.
    pub fn free_hypervisor(&mut self, first: Mfn, count: u64) {
        self.free_run(first, count, Contents::Dirty);
    }

    /// Takes a dirty free block of at most 2^`order` frames to be scrubbed while nobody needs it.
    ///
    /// Give it back by [`Frames::scrubbed`].
    pub fn take_dirty(&mut self, order: u8) -> Option<Allocation> {
        // It is away for a while: what is set aside must be there all the time.
        if self.set_aside > 0 && self.available() < 1 << order {
            return None;
        }
        let block = self.buddy.take_dirty(&mut self.table, order)?;
        let first = Mfn::new(block.first);
        self.fill(first, 1 << block.order, Frame::taken(DomId::XEN, State::Hypervisor));
        Some(Allocation { first, order: block.order, contents: Contents::Dirty, scrubbed: 0 })
    }

    /// Gives back a block from [`Frames::take_dirty`], clean if all of it was scrubbed.
    pub fn scrubbed(&mut self, block: Allocation) {
        let done = block.scrubbed == block.count();
        let contents = if done { Contents::Clean } else { Contents::Dirty };
        self.free_run(block.first, block.count(), contents);
    }

    /// Keeps a block of `dom` whose scrubbing is interrupted; gives it back if there is one already.
    pub fn park(&mut self, dom: DomId, block: Allocation) -> Result<(), Allocation> {
        match self.accounts.get_mut(&dom) {
            Some(account) if account.parked.is_none() && !account.dying => {
                account.parked = Some(block);
                Ok(())
            }
            Some(_) | None => Err(block),
        }
    }

    /// Returns the block of 2^`order` frames that was kept for `dom`.
    pub fn unpark(&mut self, dom: DomId, order: u8) -> Option<Allocation> {
        let parked = &mut self.accounts.get_mut(&dom)?.parked;
        parked.take_if(|block| block.order == order)
    }

    /// Returns who owns `mfn`.
    pub fn owner(&self, mfn: Mfn) -> Owner {
        match self.table.get(mfn.number()) {
            Some(Frame { state: State::Ram, owner, .. }) => Owner::Domain(*owner),
            Some(Frame { state: State::Shared, owner, .. }) => Owner::SharedWith(*owner),
            Some(Frame { state: State::Hypervisor, .. }) => Owner::Hypervisor,
            Some(_) | None => Owner::Nobody,
        }
    }

    /// Returns how many hold `mfn`, and whether its owner is one of them.
    #[cfg(any(test, feature = "fakes"))]
    pub fn holds(&self, mfn: Mfn) -> (u32, bool) {
        let frame = self.table.get(mfn.number());
        frame.map_or((0, false), |frame| (frame.references, frame.held_by_owner()))
    }

    /// Holds a frame that is `dom`'s memory or lent to it, until [`Frames::put`].
    #[inline(always)]
    pub fn get(&mut self, mfn: Mfn, dom: DomId) -> Result<(), FramesError> {
        let frame = self.table.get_mut(mfn.number()).ok_or(FramesError::NotOwned)?;
        if !matches!(frame.state, State::Ram | State::Shared)
            || frame.owner != dom
            || !frame.held_by_owner()
        {
            return Err(FramesError::NotOwned);
        }
        frame.references = frame.references.checked_add(1).ok_or(FramesError::TooMany)?;
        Ok(())
    }

    /// Lets go of a frame held by [`Frames::get`]; frees it if that was the last hold.
    pub fn put(&mut self, mfn: Mfn) -> Put {
        self.let_go(mfn, false)
    }

    /// Takes `count` frames from `first` on from their owner, and frees those that nobody else holds.
    ///
    /// They must be in no translation table or cache any more. Frames whose owner let go before, or
    /// that have none, are left alone.
    pub fn release(&mut self, first: Mfn, count: u64) -> Put {
        let mut outcome = Put::Kept;
        let mut at = first;
        let mut left = count;
        while left > 0 {
            let (run, owner) = self.plain_run(at, left);
            let done = run.max(1);
            outcome = outcome.and(if run == 0 {
                self.let_go(at, true)
            } else {
                self.fill(at, run, Frame::INSIDE);
                self.buddy.add(&mut self.table, at.number(), run, Contents::Dirty);
                self.debit(owner, run, 0)
            });
            left -= done;
            let Some(next) = at.checked_add(done) else { break };
            at = next;
        }
        outcome
    }

    /// Remembers where a page lent to a domain is mapped in it; says where it was.
    pub fn set_shared_at(&mut self, mfn: Mfn, gfn: Option<Gfn>) -> Option<Gfn> {
        let frame = self.table.get_mut(mfn.number())?;
        (frame.state == State::Shared).then_some(())?;
        let before = frame.shared_at();
        frame.set_shared_at(gfn);
        before
    }

    /// Returns where a page lent to a domain is mapped in it.
    pub fn shared_at(&self, mfn: Mfn) -> Option<Gfn> {
        let frame = self.table.get(mfn.number())?;
        if frame.state == State::Shared { frame.shared_at() } else { None }
    }

    /// Checks that `dom` may have `count` frames more.
    fn check(&self, dom: DomId, count: u64) -> Result<(), FramesError> {
        let account = self.accounts.get(&dom).filter(|account| !account.dying);
        let account = account.ok_or(FramesError::NoDomain)?;
        if account.limit.saturating_sub(account.total) < count {
            return Err(FramesError::OverLimit);
        }
        let for_others = self.claimed - account.claimed;
        if self.available().saturating_sub(for_others) < count {
            return Err(FramesError::NoMemory);
        }
        Ok(())
    }

    fn take(&mut self, order: u8, limit: Option<Mfn>) -> Result<Allocation, FramesError> {
        let limit = limit.map_or(u64::MAX, Mfn::number);
        let block = self.buddy.take(&mut self.table, order, limit).ok_or(FramesError::NoMemory)?;
        let first = Mfn::new(block.first);
        Ok(Allocation { first, order, contents: block.contents, scrubbed: 0 })
    }

    /// Takes exactly these frames off the free lists.
    fn carve(&mut self, first: Mfn, count: u64) -> Result<(), FramesError> {
        let (start, end) = (first.number(), first.number().saturating_add(count));
        let mut at = start;
        while at < end {
            at = self.buddy.holding(&self.table, at).ok_or(FramesError::NoMemory)?.end();
        }
        let mut at = start;
        while at < end {
            let Some(block) = self.buddy.holding(&self.table, at) else { break };
            self.buddy.unlink(&mut self.table, block);
            let (before, after) = (at - block.first, block.end().saturating_sub(end));
            self.buddy.add(&mut self.table, block.first, before, block.contents);
            self.buddy.add(&mut self.table, block.end() - after, after, block.contents);
            at = block.end();
        }
        Ok(())
    }

    /// Makes frames just taken the memory of `dom`, which has an account.
    fn enter(&mut self, dom: DomId, first: Mfn, count: u64) {
        let mut at = first.number();
        let end = at + count;
        while at < end {
            let Some(bank) = self.table.bank(at) else { break };
            let run = (end - at).min(bank.base + bank.len - at);
            self.fill(Mfn::new(at), run, Frame::taken(dom, State::Ram));
            at += run;
        }
        if let Some(account) = self.accounts.get_mut(&dom) {
            account.total += count;
            let kept = account.claimed.min(count);
            account.claimed -= kept;
            self.claimed -= kept;
        }
    }

    fn fill(&mut self, first: Mfn, count: u64, entry: Frame) {
        if let Some(frames) = self.table.run_mut(first.number(), count) {
            frames.fill(entry);
        }
    }

    /// Counts the frames from `first` on, at most `limit`, that only their one owner holds.
    fn plain_run(&mut self, first: Mfn, limit: u64) -> (u64, DomId) {
        let none = (0, DomId(0));
        let Some(bank) = self.table.bank(first.number()) else { return none };
        let limit = limit.min(bank.base + bank.len - first.number());
        let Some(frames) = self.table.run_mut(first.number(), limit) else { return none };
        let Some(owner) = frames.first().map(|frame| frame.owner) else { return none };
        let plain = |frame: &&Frame| {
            frame.references == 1
                && frame.state == State::Ram
                && frame.owner == owner
                && frame.held_by_owner()
        };
        (frames.iter().take_while(plain).count() as u64, owner)
    }

    /// Takes one hold of a frame away: the owner's own, or another's.
    fn let_go(&mut self, mfn: Mfn, owners: bool) -> Put {
        let Some(frame) = self.table.get_mut(mfn.number()) else { return Put::Kept };
        let in_use = matches!(frame.state, State::Ram | State::Shared);
        if !in_use || frame.references == 0 || (owners && !frame.held_by_owner()) {
            return Put::Kept;
        }
        if owners {
            frame.detail = 0;
        }
        frame.references -= 1;
        if frame.references > 0 {
            return Put::Kept;
        }
        let Frame { owner, state, .. } = *frame;
        *frame = Frame::INSIDE;
        self.buddy.add(&mut self.table, mfn.number(), 1, Contents::Dirty);
        if state == State::Ram { self.debit(owner, 1, 0) } else { self.debit(owner, 0, 1) }
    }

    /// Books frames of `dom` out that were freed.
    fn debit(&mut self, dom: DomId, total: u64, shared: u64) -> Put {
        let Some(account) = self.accounts.get_mut(&dom) else { return Put::Freed };
        account.total -= total;
        account.shared -= shared;
        if account.dying && account.total == 0 && account.shared == 0 {
            Put::LastOf(dom)
        } else {
            Put::Freed
        }
    }

    /// Frees those of these frames that are the hypervisor's own.
    fn free_run(&mut self, first: Mfn, count: u64, contents: Contents) {
        let all_ours = self
            .table
            .run_mut(first.number(), count)
            .is_some_and(|frames| frames.iter().all(|frame| frame.state == State::Hypervisor));
        if all_ours {
            self.fill(first, count, Frame::INSIDE);
            self.buddy.add(&mut self.table, first.number(), count, contents);
        }
    }
}
