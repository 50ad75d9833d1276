//! The judge of the torture command, judged: that each invariant can fail, and that it tolerates what it must.
//!
//! A target of its own: the torture command has no test harness and is built for a broker alone, and the other tests
//! without one are of workers, which there are none of here. What is judged are small evidences, made by hand.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "the command also tells of deeds, which the judge does not")]
#[path = "torture/history.rs"]
mod history;
#[path = "torture/judge/mod.rs"]
mod judge;
#[path = "torture/judge/tests/mod.rs"]
mod tests;
