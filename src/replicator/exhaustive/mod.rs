//! Every interleaving of a small world: the real decisions, in every order in which they can be asked for.
//!
//! A promise about crashes and lost answers is easily believed and hard to test, because what breaks it is an order of events that
//! nobody thought of. So nobody thinks of one here: one contact of up to three versions, two workers and one CRM are taken
//! through every state that they can come to, and each state is looked at.
//!
//! **Real** are the lane, the delivery machine and its plan, the ledger, and the owned partition with its judgement of
//! takeover and release ([`Lane`], [`Machine`], [`Ledger`], [`Owned`]).
//!
//! **Modelled** is what they speak to, as small and plain as could be ([`world`]):
//! - *The log.* Versions: a record and an entry each. Committed offset, claim, link and outcomes. A transaction is prepared, then
//!   takes effect as a whole, or not at all; its answer may not come, and its writer may die. A member that was expelled
//!   prepares nothing. Opening a writer ends what it had left open.
//! - *Membership.* One partition and two workers. An owner hands over, drains and is let go; or it is expelled and learns of it
//!   later; or it dies and starts again.
//! - *Views.* What a worker sees of the newest record and of the newest link lags by any number of steps.
//! - *The CRM* ([`crm`]): one that sets fields under our key, and one that makes another contact with every create, with a
//!   search. A request lands or not, once, and its answer comes or not.
//! - *Time.* Only the landing time passes, as one step, before which every request under way has landed or vanished. Jitter, back-off and
//!   pauses of the whole CRM are left out: they move attempts about, which happens here anyway.
//! - *An operator*, who asks once that the contact be driven anew, or that what waits be skipped, at any moment; and *a zombie*, whose write no version says
//!   and which lands before that.
//! - *Neighbours.* Where asked for, another contact's entry holds back the committed offset.
//!
//! Left out are a worker frozen between its last check and the request (nothing promised covers it, but for what is asked
//! after it), retention, the gate,
//! the limits, and more contacts than one: they share the ledger and nothing else.
//!
//! What may go wrong is counted ([`Budget`]), so that a world is finite; several small worlds see more than a large one.
//! What must hold is in [`invariants`], each by name. [`configurations`] are the worlds in which nothing breaks;
//! [`protections`] switches off one protection after the other and shows which invariant breaks.
//!
//! A violation prints the shortest way there, to be read aloud.
//!
//! [`Lane`]: super::lane::Lane
//! [`Machine`]: super::delivery::Machine
//! [`Ledger`]: super::ledger::Ledger
//! [`Owned`]: super::partition::Owned
//! [`Budget`]: world::Budget

// The larger worlds wait for `cargo test --lib exhaustive -- --ignored`.
mod configurations;
mod crm;
mod interned;
mod invariants;
mod print;
mod protections;
mod search;
mod world;
