//! Three async tasks on one vCPU, which sleeps when none is ready: a timer, a watch of the store, the toolstack's requests.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod guest {
    extern crate alloc;

    use alloc::boxed::Box;
    use core::time::Duration;
    use pv_guest_lib::control::Control;
    use pv_guest_lib::executor::Executor;
    use pv_guest_lib::xenstore::{self, StoreError, Watch};
    use pv_guest_lib::{say, time};

    pv_guest_lib::entry!(main);

    fn main() {
        let executor = Box::leak(Box::new(Executor::new()));
        executor.run(|spawner| {
            // Each task is spawned once, so there is room for it.
            if let (Ok(ticks), Ok(messages), Ok(end)) = (ticks(), messages(), end()) {
                spawner.spawn(ticks);
                spawner.spawn(messages);
                spawner.spawn(end);
            }
        })
    }

    #[embassy_executor::task]
    async fn ticks() {
        for tick in 1..=3 {
            time::sleep_async(Duration::from_millis(50)).await;
            say!("tick {tick}");
        }
    }

    async fn echo() -> Result<(), StoreError> {
        let watch = Watch::new("data/message")?;
        loop {
            watch.changed().await?;
            if let Ok(message) = xenstore::read("data/message") {
                say!("told: {message}");
            }
        }
    }

    #[embassy_executor::task]
    async fn messages() {
        if let Err(error) = echo().await {
            say!("failed: {error}");
        }
    }

    #[embassy_executor::task]
    async fn end() {
        match Control::new() {
            Err(error) => say!("failed: {error}"),
            Ok(control) => {
                if let Ok(request) = control.next().await {
                    say!("asked for {request:?}");
                    request.perform();
                }
            }
        }
    }
}

/// Off the machine there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
