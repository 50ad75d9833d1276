//! Who is taken for whom in a LogiSense, where a contact carries our reference only if the tenant has a place for it. A life
//! with every field that the mapping table has is in `lifecycle`.

use contact_replicator::config::CrmKind;
use serde_json::{Value, json};

use crate::{
    history::event,
    scene::{Scene, play},
    world::{Setup, Tenant, World},
};

const BILLING: &[Tenant] = &[Tenant { name: "billing", kind: CrmKind::Logisense }];

/// What is held of a contact, by the names of the table: fields, points by type, and the address.
pub(crate) fn held_of(contact: &Value) -> Option<Value> {
    let fields = &contact["fields"];
    let points = fields["details"]["contactPoints"].as_array()?.iter();
    let mut points: Vec<String> = points
        .map(|point| {
            let text = |name: &str| point[name].as_str().expect("a contact point has a type and a value");
            format!("{} {}", text("contactPointTypeName"), text("value"))
        })
        .collect();
    points.sort_unstable();
    let address = &fields["details"]["address"];
    let address: Vec<&Value> =
        ["address1", "address2", "cityName", "stateId", "countryId", "zipCode", "latitude", "longitude"]
            .iter()
            .map(|member| &address[*member])
            .collect();
    let own = [&fields["contactTypeId"], &fields["title"], &fields["firstName"], &fields["lastName"]];
    Some(json!({ "own": own, "points": points, "address": address, "tax": fields["isUsedForTax"] }))
}

/// Something that was there before us.
async fn was_there(world: &World, first: &str, last: &str, email: &str) {
    let send = async |method: &str, path: &str, media: &str, token: &str, body: String| -> Value {
        let request = http::Request::builder().method(method).uri(path).header("content-type", media);
        let request = request.header("authorization", format!("Bearer {token}")).body(body.into()).expect("a request");
        let answer = world.sandbox.handle(request).await.expect("nothing is broken");
        serde_json::from_slice(answer.body()).expect("it answers in JSON")
    };
    let login = "grant_type=password&username=contact-replicator&password=sandbox-token&client_id=contact-replicator";
    let form = "application/x-www-form-urlencoded";
    let answer = send("POST", "/AuthorizationServer/api/v6/Access/Login", form, "", login.to_owned()).await;
    let token = answer["access_token"].as_str().expect("a token");
    let entity = "/ResourceServer/api/v6/Contact/";
    let bare = json!({ "contactTypeId": 20, "title": "Dr.", "firstName": first, "lastName": last });
    let made = send("POST", entity, "application/json", token, bare.to_string()).await;
    let id = made["results"]["items"][0]["identity"].as_u64().expect("an id");
    let point = json!({ "patchType": "create", "contactPointTypeId": 41, "value": email });
    let points = json!({ "details": { "contactPoints": { "items": [point] } } });
    let made = send("PATCH", &format!("{entity}{id}"), "application/json", token, points.to_string()).await;
    assert_eq!(made["results"]["totalCount"], 1, "{made}");
}

/// A person of this e-mail address and telephone.
fn ilka(email: &str) -> Value {
    json!({
        "name": { "givenName": "Ilka", "familyName": "Sundstrom" },
        "emails": [{ "value": email }], "phoneNumbers": [{ "value": "+15195550111", "type": "mobile" }],
    })
}

async fn say(scene: &mut Scene, subject: &str, version: u64, said: Option<Value>) {
    let verb = if said.is_some() { "contact.updated" } else { "contact.deleted" };
    scene.world.publish(vec![event("/shop", subject, &format!("{subject}-{version}"), verb, version, said)]).await;
    scene.settled().await;
}

/// Titles and points of all contacts, the oldest first.
fn everybody(world: &World) -> Vec<Value> {
    let held = |contact: &Value| held_of(contact).expect("a contact is whole");
    let contacts = world.sandbox.contacts();
    contacts.iter().map(held).map(|held| json!([held["own"][1], held["points"]])).collect()
}

const ADA: &str = "email ada@example.com";
const BEA: &str = "email bea@example.com";
const MOBILE: &str = "mobile +15195550111";

/// Under the settings' defaults nothing of a contact says whose it is once it is whole.
#[test]
fn where_nothing_can_mark_a_contact_as_ours_nobody_is_taken_for_another() {
    play(async {
        let world = World::of(Setup { crms: BILLING, ..Setup::default() }).await;
        was_there(&world, "Ilka", "Sundstrom", "ada@example.com").await;
        let theirs = json!(["Dr.", [ADA]]);
        let (ada, bea) = (json!([null, [ADA, MOBILE]]), json!([null, [BEA, MOBILE]]));
        let mut scene = Scene::begin(world).await;
        say(&mut scene, "a", 1, Some(ilka("ada@example.com"))).await;
        say(&mut scene, "b", 1, Some(ilka("bea@example.com"))).await;
        assert_eq!(everybody(&scene.world), [theirs.clone(), ada.clone(), bea.clone()]);
        // Who is deleted stays, and comes back as somebody new.
        say(&mut scene, "a", 2, None).await;
        say(&mut scene, "a", 3, Some(ilka("ada@example.com"))).await;
        assert_eq!(everybody(&scene.world), [theirs, ada.clone(), bea, ada]);
    });
}

#[test]
fn where_our_reference_is_planted_whoever_carries_none_is_adopted_once() {
    play(async {
        let mut world = World::of(Setup { crms: BILLING, ..Setup::default() }).await;
        let logisense = world.settings.crm[0].logisense.as_mut().expect("it is a LogiSense");
        logisense.contact_points.reference = "reference".to_owned();
        was_there(&world, "Ilka", "Sundstrom", "ada@example.com").await;
        let mut scene = Scene::begin(world).await;
        say(&mut scene, "a", 1, Some(ilka("ada@example.com"))).await;
        let reference = |world: &World, index: usize| {
            let point = everybody(world)[index][1].as_array().and_then(|points| points.last().cloned());
            point.as_ref().and_then(Value::as_str).expect("a point").to_owned()
        };
        let of_ada = reference(&scene.world, 0);
        assert_eq!(of_ada.len(), "reference ".len() + 36);
        let ada = json!(["Dr.", [ADA, MOBILE, of_ada]]);
        assert_eq!(everybody(&scene.world), std::slice::from_ref(&ada));
        // A namesake with the same telephone, and whoever comes back, find it taken.
        say(&mut scene, "b", 1, Some(ilka("bea@example.com"))).await;
        let bea = json!([null, [BEA, MOBILE, reference(&scene.world, 1)]]);
        assert_eq!(everybody(&scene.world), [ada.clone(), bea.clone()]);
        say(&mut scene, "a", 2, None).await;
        say(&mut scene, "a", 3, Some(ilka("ada@example.com"))).await;
        let again = json!([null, [ADA, MOBILE, reference(&scene.world, 2)]]);
        assert_eq!(everybody(&scene.world), [ada, bea, again.clone()]);
        assert_ne!(again[1][2], json!(of_ada));
    });
}
