//! Drives one CRM to the newest record of each contact.

pub mod link;
