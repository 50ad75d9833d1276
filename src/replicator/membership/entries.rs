//! Entries of the work list: read, held until the view covers them, handed to their lanes, and forgotten.

use tokio::time::Instant;

use super::Membership;
use crate::{contact::format, crm::link::Link, event::Entry, log::Record, replicator::Error};

impl Membership<'_> {
    pub(super) fn read(&mut self, record: &Record) -> Result<(), Error> {
        let partition = record.at.partition;
        let Some(owned) = self.owned.get_mut(&partition) else { return Ok(()) };
        if !owned.reads() {
            return Ok(());
        }
        match (&record.key, &record.value) {
            (Some(key), Some(value)) if !key.starts_with(b"#") => {
                let entry: Entry = format::decode(value).map_err(|error| Error::Entry {
                    at: record.at.clone(),
                    offset: record.offset,
                    reason: error.to_string(),
                })?;
                if entry.is_for(&self.parts.name) {
                    owned.read(entry, record.offset);
                } else {
                    owned.skip(record.offset);
                }
            }
            _ => owned.skip(record.offset),
        }
        Ok(())
    }

    /// Hands entries to their lanes as far as the view covers them, and keeps each partition within its bound.
    pub(super) fn handle_incoming(&mut self) -> Result<(), Error> {
        let view = &self.parts.view;
        let crm = &self.parts.name;
        let max = self.parts.settings.unanswered_max;
        for (partition, owned) in &mut self.owned {
            while let Some((entry, _)) = owned.incoming.front().filter(|_| owned.reads()) {
                let contact = entry.contact_id;
                let covered =
                    view.record_version(contact).map_err(|source| Error::View { crm: crm.clone(), source })?;
                if covered.is_none_or(|version| version < entry.version) {
                    break;
                }
                let link = match owned.lanes.contains_key(&contact) {
                    true => None,
                    false => view.link(crm, contact).map_err(|source| Error::View { crm: crm.clone(), source })?,
                };
                let (entry, offset) = owned.incoming.pop_front().expect("just seen");
                owned.handle(entry, offset, || link.unwrap_or_else(|| Link::new(contact)));
                self.ready.push(*partition, contact);
            }
            let held = owned.held();
            if held >= max && !owned.paused {
                owned.paused = true;
                self.handle.pause(*partition);
            } else if held <= max / 2 && owned.paused {
                owned.paused = false;
                self.handle.resume(*partition);
            }
        }
        Ok(())
    }

    pub(super) fn view_changed(&mut self) -> Result<(), Error> {
        self.follow_orders()?;
        self.handle_incoming()?;
        let now = Instant::now();
        let deadline = self.parts.settings.landing_time();
        while let Some((partition, contact)) = self.resting.front().copied() {
            if let Some(owned) = self.owned.get_mut(&partition)
                && let Some(lane) = owned.lanes.get(&contact)
            {
                if lane.is_idle(now, deadline) && !owned.pending.links.contains(&contact) {
                    let (view, crm) = (&self.parts.view, &self.parts.name);
                    let seen = match owned.written.get(&contact) {
                        Some(written) => view.holds_link_as_written(crm, contact, written),
                        None => view.holds_link(crm, &lane.link),
                    };
                    if !seen.map_err(|source| Error::View { crm: self.parts.name.clone(), source })? {
                        // The follower applies in order: those behind have not been seen either.
                        break;
                    }
                    owned.forget(contact);
                } else if let Some(lost) = lane.lost(now, deadline) {
                    // Until then newer content must wait, which only the lane remembers.
                    self.timers.insert((lost.sent_at + deadline, partition, contact));
                }
            }
            self.resting.pop_front();
        }
        Ok(())
    }
}
