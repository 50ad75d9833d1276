//! Torture: workers on real Kafka under every fault that can be made, judged from outside.

mod history;

fn main() {}
