//! The real worker on the log in memory, with a paused clock, simulated CRMs, and faults by seed.

mod bad_input;
mod creates;
mod crm_com;
mod explain;
mod history;
mod ingest;
mod invariants;
mod logisense;
mod mapping;
mod outage;
mod persons;
mod privacy;
mod rebuild;
mod relations;
mod resync;
mod scene;
mod shared_calls;
mod shutdown;
mod simulation;
mod steps;
mod switches;
mod two_workers;
mod verify;
mod world;
