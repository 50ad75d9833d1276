//! contact-replicator: from a change on Kafka to every configured CRM, answered exactly once.
//!
//! Services announce on Kafka that a contact changed. A worker reads the changes, works out which person each is about,
//! keeps one record per person, drives every configured CRM to that record, and says what became of each change.
//!
//! # The way a change travels
//!
//! ```text
//!  input topics ──► resolver ──► contact-records    who our contacts are         (compacted)
//!  (CloudEvents)    1 active │   contact-keys       who owns an identifier       (compacted)
//!                            │   contact-versions   the replicators' work list   (deleted with age)
//!                            │   contact-resolver   lease, input positions, term, pauses (compacted)
//!                            └─► contact-outcomes, contact-identity-events, contact-dead-letters
//!
//!  operators ──► any worker ──► entries and orders, and with each of them contact-audit
//!
//!  contact-versions ──► replicator ◄──HTTP──► CRM
//!                       1 per CRM └──► contact-links.<crm> (compacted), contact-outcomes, group offsets
//!
//!  every worker: view (sled) ◄── follows the compacted topics
//! ```
//!
//! # Modules, in reading order
//!
//! The inner ring decides and touches nothing: no log, no HTTP, no clock, no task.
//!
//! 1. [`contact`]: the document that sources write, and the record that becomes of it.
//! 2. [`event`]: what comes in (a change) and what goes out (an outcome, a dead letter), and the work list between.
//! 3. [`identity`]: which person a change is about.
//!
//! The middle ring talks to one outside thing each.
//!
//! 4. [`log`]: the seam to the stream of records; `kafka` is a cluster, `local` one process, in memory or on disk.
//! 5. [`view`]: a disposable copy of what the compacted topics say, in sled.
//! 6. [`crm`]: the connectors, pure, and the one HTTP exchange.
//! 7. [`privacy`], [`clock`], [`protection`]: keyed hashes and secrets that do not print; the time of day, as something passed
//!    in; what keeps the promises, by name, so that tests can do without it.
//! 8. `sockets`: connections that others make to us, bounded in number and in patience.
//!
//! The outer ring wires and runs.
//!
//! 9. [`resolver`]: the one active decider around [`identity`].
//! 10. [`replicator`]: drives one CRM to the newest record of each contact.
//! 11. [`ingest`]: takes events over HTTP and writes them to the input topics.
//! 12. [`explain`]: says of one contact who it is, why, and where each CRM stands with it.
//! 13. [`status`]: how one worker stands: what its parts do, and each CRM.
//! 14. [`resync`]: what operators ask of a CRM and its contacts: to be driven anew.
//! 15. [`verify`]: compares what a CRM holds with the records, where it can be read.
//! 16. [`links`]: which contact of a CRM is which of ours, said by an operator and told to one.
//! 17. [`pause`]: a CRM is left alone until an operator says otherwise.
//! 18. [`stuck`]: contacts that keep failing are tried now, or what waits of them is given up.
//! 19. [`letters`]: dead letters are listed, shown and sent in again.
//! 20. [`audit`]: no action of an operator without a record of who asked for it, and why.
//! 21. [`worker`]: all of these, with the view, in one process.
//! 22. [`config`], [`metrics`], [`telemetry`], [`admin`]: what operators set and see.
//! 23. [`sandbox`]: simulated CRMs, for the demo and the tests.
//! 24. [`cli`]: the commands.
//!
//! # What always holds
//!
//! - **The log is the truth.** The view may be deleted at any moment that no worker runs; it costs time, nothing else.
//! - **A decision and the input it consumed are committed together.** What failed to commit never happened; nothing is
//!   undone.
//! - **One writer for each thing.** Records and keys: the active resolver. Links of a contact in a CRM: the owner of the
//!   contact's partition.
//! - **Fence, then catch up, then act.** A successor first makes its predecessor unable to commit, then waits until its view
//!   holds all that was committed, and only then works.
//! - **Level, not edge.** A replicator compares what a CRM should hold with what it last accepted. First try, retry, restart
//!   and repair are one path. Every entry of the work list is answered exactly once all the same.
//! - **Everything has a bound.** At the bound a partition pauses; nothing grows.
//! - **Nobody's data leaks.** Log lines, metrics, outcomes and errors carry ids, never a value of a contact.
//!
//! # Who may name what
//!
//! Each outside library that could be replaced is named in one place: rdkafka in `log::kafka`, sled in `view` and
//! `log::local`, reqwest in `crm::transport` and `cli::client`, crossterm in `cli::status`,
//! backoff in `replicator::retry`, prometheus in `metrics`, opentelemetry-proto and prost in `telemetry::traces`. Connectors do
//! not know each other; the sandbox shares no type with them. `tests/tidy.rs` holds the sources to this.
//!
//! # What is absent, on purpose
//!
//! - No database and no lock service: the log, which is Kafka wherever there is more than one worker, has the only state,
//!   its groups and transactions the only agreement.
//! - No leader that hands out work: groups share it. The resolver's lease is a partition like any other.
//! - No queue without a bound, no retry without an end to its pace, no default in code that the reference of the settings
//!   does not show.
//! - No comparison with what a CRM holds unless somebody asks for it ([`verify`]): it is searched before a create, and
//!   otherwise believed to hold what it accepted. What a CRM's users change by hand stands until the contact's next change, or
//!   until it is driven anew.
//! - No fencing of HTTP: a request that a frozen worker sends later than its deadline may land after a newer one. A resync
//!   mends it.

pub mod admin;
pub mod audit;
pub mod cli;
pub mod clock;
pub mod config;
pub mod contact;
pub mod crm;
pub mod event;
pub mod explain;
pub mod identity;
pub mod ingest;
pub mod letters;
pub mod links;
pub mod log;
pub mod metrics;
pub mod pause;
pub mod privacy;
pub mod protection;
pub mod replicator;
pub mod resolver;
pub mod resync;
pub mod sandbox;
mod sockets;
pub mod status;
pub mod stuck;
pub mod telemetry;
pub mod verify;
pub mod view;
pub mod worker;
