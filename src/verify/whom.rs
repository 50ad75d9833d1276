//! Who is compared: all contacts, or some of them by chance, partition by partition.

use std::collections::BTreeMap;

use rand::RngExt as _;
use tokio::task::spawn_blocking;

use super::{Whom, links::LINKS_AT_ONCE};
use crate::{
    contact::ContactId,
    log::Partition,
    view::{View, ViewError},
};

/// Ids read from the view at once.
const IDS_AT_ONCE: usize = 10_000;

/// Those who are compared.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) count: u64,
    /// In the order of their ids; `None`: everybody.
    sample: Option<BTreeMap<Partition, Vec<ContactId>>>,
}

impl Chosen {
    pub(crate) async fn of(whom: Whom, view: &View) -> Result<Self, ViewError> {
        let view = view.clone();
        on_a_thread(move || choose(whom, &view)).await
    }

    /// The next of them in `partition`, behind `after`, at most as many as links are held of; none: that was all.
    pub(crate) async fn next(
        &self,
        partition: Partition,
        after: Option<ContactId>,
        view: &View,
    ) -> Result<Vec<ContactId>, ViewError> {
        match &self.sample {
            Some(sample) => Ok(behind(sample.get(&partition).map(Vec::as_slice).unwrap_or_default(), after)),
            None => {
                let view = view.clone();
                on_a_thread(move || of_partition(&view, partition, after)).await
            }
        }
    }
}

fn choose(whom: Whom, view: &View) -> Result<Chosen, ViewError> {
    let size = match whom {
        Whom::All => 0,
        Whom::Sample(size) => usize::try_from(size).unwrap_or(usize::MAX),
    };
    let mut random = rand::rng();
    let (mut count, mut drawn) = (0_u64, Vec::new());
    each(view, None, |contact| {
        count += 1;
        // Everybody is equally likely to stay, however many come.
        if drawn.len() < size {
            drawn.push(contact);
        } else if size > 0 {
            let place = random.random_range(0..count);
            if let Some(place) = usize::try_from(place).ok().and_then(|place| drawn.get_mut(place)) {
                *place = contact;
            }
        }
        true
    })?;
    if whom == Whom::All {
        return Ok(Chosen { count, sample: None });
    }
    drawn.sort_unstable();
    let count = drawn.len() as u64;
    let mut sample: BTreeMap<Partition, Vec<ContactId>> = BTreeMap::new();
    for contact in drawn {
        sample.entry(view.partition(contact)).or_default().push(contact);
    }
    Ok(Chosen { count, sample: Some(sample) })
}

/// Of contacts in the order of their ids.
fn behind(all: &[ContactId], after: Option<ContactId>) -> Vec<ContactId> {
    let first = all.partition_point(|contact| after.is_some_and(|after| *contact <= after));
    all.iter().skip(first).take(LINKS_AT_ONCE).copied().collect()
}

fn of_partition(view: &View, partition: Partition, after: Option<ContactId>) -> Result<Vec<ContactId>, ViewError> {
    let mut found = Vec::new();
    each(view, after, |contact| {
        if view.partition(contact) == partition {
            found.push(contact);
        }
        found.len() < LINKS_AT_ONCE
    })?;
    Ok(found)
}

/// Every contact behind `after`, in the order of their ids, until `look` says that it is enough.
fn each(view: &View, mut after: Option<ContactId>, mut look: impl FnMut(ContactId) -> bool) -> Result<(), ViewError> {
    loop {
        let contacts = view.contacts(after, IDS_AT_ONCE)?;
        if !contacts.iter().all(|contact| look(*contact)) || contacts.len() < IDS_AT_ONCE {
            return Ok(());
        }
        after = contacts.last().copied();
    }
}

async fn on_a_thread<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, ViewError> + Send + 'static,
) -> Result<T, ViewError> {
    match spawn_blocking(read).await {
        Ok(read) => read,
        Err(ended) => std::panic::resume_unwind(ended.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn no_more_are_taken_at_once_than_links_are_held_and_none_twice() {
        for (count, sizes) in
            [(0, &[][..]), (LINKS_AT_ONCE, &[LINKS_AT_ONCE]), (LINKS_AT_ONCE + 1, &[LINKS_AT_ONCE, 1])]
        {
            let all: Vec<ContactId> = (0..count as u128).map(|number| ContactId(Uuid::from_u128(number))).collect();
            let (mut taken, mut taken_sizes, mut after) = (Vec::new(), Vec::new(), None);
            loop {
                let some = behind(&all, after);
                let Some(last) = some.last() else { break };
                after = Some(*last);
                taken_sizes.push(some.len());
                taken.extend(some);
            }
            assert_eq!((taken, taken_sizes.as_slice()), (all, sizes), "{count}");
        }
    }
}
