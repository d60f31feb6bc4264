//! stub
use crate::domain::Domain; use crate::state::Hypervisor;
/// p
pub enum Progress { /// d
 Done, /// m
 More }
impl Hypervisor { /// d
 pub fn destroy(&self, _: &Domain) -> Progress { Progress::Done }
 /// l
 pub fn let_go(&self, _: hv_core::p2m::Released) {} }
