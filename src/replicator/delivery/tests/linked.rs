//! Contacts of which an operator said which one of the CRM they are.

use super::*;
use crate::event::entry::LinkTo;

/// A link that names a contact that was there before us.
fn existing() -> Link {
    let mut link = nobody();
    link.take_in(&LinkTo::Remote(BTreeMap::from([(REMOTE_CONTACT.to_owned(), "1".to_owned())])), 7);
    link
}

fn new() -> Link {
    let mut link = nobody();
    link.take_in(&LinkTo::New, 7);
    link
}

#[test]
fn the_first_delivery_to_a_contact_that_was_there_is_an_update_with_all_fields_that_is_announced() {
    for (forced, anew) in [(false, false), (false, true), (true, true)] {
        let terms = terms(Book::default(), true);
        let task = Task { forced, anew, ..task(existing()) };
        let record = record(1, "new@x.org");
        let (sent, end) = play(&terms, &task, &record, vec![]);
        assert!(sent.is_empty());
        let End::Announced { fields } = end else { panic!("{end:?}") };
        assert_eq!(fields, [Arc::from("email"), Arc::from("name")]);

        let mut announced = task.clone();
        announced.link.sent.extend(fields.into_iter().map(|field| (field, Sent::Void)));
        let (sent, end) = play(&terms, &announced, &record, vec![answer(200, "")]);
        assert_eq!(sent, [UPDATE_NEW], "neither a search nor a create");
        assert!(matches!(end, End::Delivered { operation: Operation::Adopt, .. }), "{end:?}");
    }
}

#[test]
fn what_nobody_sent_is_not_cleared_even_if_a_predecessor_died() {
    let terms = terms(Book::default(), true);
    let nameless = ContactRecord {
        contact: Some(serde_json::from_value::<Document>(json!({ "email": "new@x.org" })).unwrap()),
        ..record(1, "")
    };
    let mut link = existing();
    link.sent.insert("email".into(), Sent::Void);
    let task = Task { forced: true, anew: true, ..task(link) };
    let (sent, _) = play(&terms, &task, &nameless, vec![answer(200, "")]);
    assert_eq!(sent, [r#"PUT /contacts/1 {"email":"new@x.org"}"#]);
}

#[test]
fn who_is_to_be_forgotten_is_so_in_all_fields_of_a_contact_that_was_there() {
    let terms = terms(Book::default(), true);
    let erased = ContactRecord { status: Status::Erased, contact: None, ..record(2, "") };
    let task = task(existing());
    let link = suspected(&terms, &task, &erased, false);
    assert_eq!(link.sent.values().collect::<Vec<_>>(), [&Sent::Void, &Sent::Void]);
    let live = record(2, "new@x.org");
    assert!(suspected(&terms, &task, &live, true).sent.is_empty());
}

#[test]
fn a_create_that_an_operator_asked_for_is_not_searched_for_and_intended_before() {
    for (planted, find_before_create) in [(false, true), (true, true), (true, false)] {
        let terms = terms(Book { planted, ..Book::default() }, find_before_create);
        let record = record(1, "new@x.org");
        let task = Task { anew: true, ..task(new()) };
        let (sent, end) = play(&terms, &task, &record, vec![]);
        assert!(sent.is_empty());
        let End::Intended { intent } = end else { panic!("{end:?}") };

        let intended = Link { intent: Some(intent), linked: None, ..task.link.clone() };
        let go = Task { intended: true, ..Task { link: intended.clone(), ..task.clone() } };
        let (sent, end) = play(&terms, &go, &record, vec![answer(200, "9")]);
        assert!(sent.len() == 1 && sent[0].starts_with("POST"), "{sent:?}");
        assert!(matches!(end, End::Delivered { operation: Operation::Create, .. }), "{end:?}");

        // Whoever takes over cannot know whether it left.
        let heir = Task { forced: true, link: intended, ..task };
        let (sent, _) = play(&terms, &heir, &record, vec![answer(200, "9"), answer(200, "")]);
        assert!(sent[0].starts_with("GET /search") && sent[1].starts_with("PUT /contacts/9"), "{sent:?}");
    }
}

proptest! {
    /// The contact that was there stays the only one, and keeps what is not ours, however often workers die on the way.
    #[test]
    fn what_was_there_is_neither_doubled_nor_emptied(
        turns in turns(), planted in any::<bool>(), reads_back in any::<bool>(), find_before_create in any::<bool>(),
    ) {
        let theirs = BTreeMap::from([("name".to_owned(), json!("Theirs"))]);
        let store = Store { contacts: BTreeMap::from([(1, theirs)]), made: 1 };
        let terms = terms(Book { planted, reads_back, saves_found: true }, find_before_create);
        let mut world = World::new(terms, Box::new(store));
        world.committed = existing();
        world.lane = Lane::new(existing(), Protections::default());
        for turn in turns {
            match turn {
                Turn::Change { email, .. } => world.change(email, false, true),
                Turn::Vanish => {}
                Turn::Attempt { fates, crash } => world.attempt(&fates, crash),
            }
            prop_assert_eq!(world.store.contacts().len(), 1, "made twice");
        }
        for email in [0, 1] {
            world.change(email, false, true);
            (0..10).for_each(|_| world.attempt(&[], false));
        }
        let mut stored = world.store.contacts().remove(0);
        stored.remove("number");
        let expected = BTreeMap::from([("email".to_owned(), json!("b@x.org")), ("name".to_owned(), json!("Theirs"))]);
        prop_assert_eq!(stored, expected);
    }
}
