//! The real worker on the log in memory, with a paused clock, simulated CRMs, and faults by seed.
#![recursion_limit = "256"]

mod admin;
mod audit;
mod bad_input;
mod creates;
mod credentials;
mod crm_com;
mod drift;
mod errors;
mod explain;
mod history;
mod ingest;
mod invariants;
mod lifecycle;
mod lines;
mod links;
mod logisense;
mod mapping;
mod outage;
mod pause;
mod persons;
mod privacy;
mod published;
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
