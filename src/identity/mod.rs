//! Who a change is about.

pub mod keys;
