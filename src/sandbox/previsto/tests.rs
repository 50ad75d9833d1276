//! The simulated Previsto by itself, spoken to in plain HTTP.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;
use crate::sandbox::{
    Fault, FaultPlan, Instead, Kind, Only, Reset, Sandbox, SandboxSettings, Scripted, Window, server::Server,
};

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";
const EXAMPLE: &str = "name=Ilka%20Sundstrom&address=Kanalgade%2014&appartment=2.%20tv&postalCode=8000&city=Aarhus\
    &countryCode=DK&phone=%2B4520555012&email=ilka.sundstrom%40example.com&number=ct-000451\
    &meta%5BexternalRef%5D=ct-000451";
const EXAMPLE_CONTACT: &str = concat!(
    r#"{"id":"con_90a1","name":"Ilka Sundstrom","address":"Kanalgade 14","appartment":"2. tv","postalCode":"8000","#,
    r#""city":"Aarhus","countryCode":"DK","location":[10.2039,56.1572],"number":"ct-000451","remoteId":null,"#,
    r#""remoteOrderId":null,"phone":"+4520555012","email":"ilka.sundstrom@example.com","registrationNo":null,"ean":null,"#,
    r#""accountingMode":null,"accountingTime":null,"invoiceDelivery":null,"notifyBeforeWork":false,"archived":false,"#,
    r#""agentIds":[],"meta":{"externalRef":"ct-000451"}}"#,
);
const NO_SUCH_CONTACT: &str = r#"{"type":"invalid_request","message":"no such contact","param":"id"}"#;

fn sandbox(change: impl FnOnce(&mut SandboxSettings)) -> Sandbox {
    let mut settings = SandboxSettings { tokens: ["sk_demo".to_owned()].into(), ..SandboxSettings::of(Kind::Previsto) };
    change(&mut settings);
    Sandbox::new(settings).unwrap()
}

fn request(method: &str, address: &str, media_type: &str, body: &str) -> http::Request<Bytes> {
    let request = http::Request::builder()
        .method(method)
        .uri(address)
        .header("authorization", format!("Basic {}", BASE64_STANDARD.encode("sk_demo:")))
        .header("content-type", media_type);
    request.body(Bytes::copy_from_slice(body.as_bytes())).unwrap()
}

async fn send(sandbox: &Sandbox, request: http::Request<Bytes>) -> (u16, Value) {
    let response = sandbox.handle(request).await.unwrap();
    (response.status().as_u16(), serde_json::from_slice(response.body()).unwrap_or(Value::Null))
}

async fn post(sandbox: &Sandbox, address: &str, form: &str) -> (u16, Value) {
    send(sandbox, request("POST", address, FORM, form)).await
}

async fn post_json(sandbox: &Sandbox, address: &str, body: Value) -> (u16, Value) {
    send(sandbox, request("POST", address, JSON, &body.to_string())).await
}

async fn get(sandbox: &Sandbox, address: &str) -> (u16, Value) {
    send(sandbox, request("GET", address, FORM, "")).await
}

async fn delete(sandbox: &Sandbox, id: &str) -> u16 {
    send(sandbox, request("DELETE", &format!("/contacts/{id}"), FORM, "")).await.0
}

/// Creates a contact, and returns its address.
async fn create(sandbox: &Sandbox, form: &str) -> String {
    let (status, contact) = post(sandbox, "/contacts", form).await;
    assert_eq!(status, 200, "{contact}");
    format!("/contacts/{}", contact["id"].as_str().unwrap())
}

async fn names(sandbox: &Sandbox, query: &str) -> Vec<String> {
    let (status, contacts) = get(sandbox, &format!("/contacts?{query}")).await;
    assert_eq!(status, 200, "{query}: {contacts}");
    contacts.as_array().unwrap().iter().map(|contact| contact["name"].as_str().unwrap().to_owned()).collect()
}

async fn page(sandbox: &Sandbox, name: &str) -> Value {
    get(sandbox, &format!("/_sandbox/{name}")).await.1
}

/// The worked example: method, address, body, and the status and body of the answer.
fn worked_example() -> Vec<(&'static str, &'static str, &'static str, u16, String)> {
    let changed = EXAMPLE_CONTACT.replace("+4520555012", "+4520555099");
    vec![
        ("POST", "/contacts", EXAMPLE, 200, EXAMPLE_CONTACT.to_owned()),
        ("POST", "/contacts/con_90a1", "phone=%2B4520555099", 200, changed.clone()),
        ("GET", "/contacts/con_90a1", "", 200, changed.clone()),
        ("GET", "/contacts?search=ct-000451&size=100&page=0", "", 200, format!("[{changed}]")),
        ("GET", "/contacts?search=ct-000451&size=100&page=1", "", 200, "[]".to_owned()),
        ("DELETE", "/contacts/con_90a1", "", 204, String::new()),
        ("DELETE", "/contacts/con_90a1", "", 404, NO_SUCH_CONTACT.to_owned()),
    ]
}

#[tokio::test]
async fn the_worked_example_is_answered_byte_for_byte_in_process() {
    let sandbox = sandbox(|_| ());
    for (method, address, body, status, expected) in worked_example() {
        let answer = sandbox.handle(request(method, address, FORM, body)).await.unwrap();
        let text = std::str::from_utf8(answer.body()).unwrap();
        assert_eq!((answer.status().as_u16(), text), (status, expected.as_str()), "{method} {address}");
    }
}

#[tokio::test]
async fn the_worked_example_is_answered_byte_for_byte_over_tcp() {
    let server = Server::start(sandbox(|_| ())).await.unwrap();
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    for (method, address, body, status, expected) in worked_example() {
        let length = body.len();
        let text = format!(
            "{method} /previsto{address} HTTP/1.1\r\nHost: api.previsto.io\r\nAuthorization: Basic c2tfZGVtbzo=\r\n\
             Content-Type: {FORM}\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let ends = loop {
            if let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
                break head + 4;
            }
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "an answer");
        };
        while answer.len() < ends + expected.len() {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "a whole body");
        }
        let (head, text) = answer.split_at(ends);
        assert!(head.starts_with(format!("HTTP/1.1 {status} ").as_bytes()), "{method} {address}");
        assert_eq!(std::str::from_utf8(text).unwrap(), expected, "{method} {address}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_secret_key_without_a_password_is_needed() {
    let sandbox = sandbox(|_| ());
    let check = async |authorization: Option<&str>, status: u16| {
        let mut request = request("POST", "/contacts", FORM, "name=Ada");
        request.headers_mut().remove("authorization");
        if let Some(value) = authorization {
            request.headers_mut().insert("authorization", value.parse().unwrap());
        }
        let (answered, body) = send(&sandbox, request).await;
        assert_eq!(answered, status, "{authorization:?}");
        assert!(status == 200 || (body["type"] == "api_error" && body["message"].is_string()), "{body}");
    };
    let basic = |user: &str| format!("Basic {}", BASE64_STANDARD.encode(user));
    check(None, 401).await;
    check(Some("Bearer sk_demo"), 401).await;
    check(Some("Basic sk_demo:"), 401).await;
    check(Some(&basic("sk_demo")), 401).await;
    check(Some(&basic("sk_other:")), 401).await;
    check(Some(&basic("sk_demo:password")), 401).await;
    check(Some(&basic("pk_sandbox:")), 403).await;
    assert!(sandbox.contacts().is_empty());
    check(Some(&basic("sk_demo:")), 200).await;
    sandbox.set_tokens(["sk_next".to_owned()]);
    check(Some(&basic("sk_demo:")), 401).await;
    check(Some(&basic("sk_next:")), 200).await;
}

#[tokio::test]
async fn an_expired_key_is_refused_from_that_request_on() {
    let sandbox = sandbox(|settings| settings.faults = FaultPlan::at(2, Instead::ExpireToken));
    create(&sandbox, "name=Ada").await;
    assert_eq!(get(&sandbox, "/contacts").await.0, 401);
    assert_eq!(get(&sandbox, "/contacts").await.0, 401);
}

#[tokio::test]
async fn addresses_methods_and_media_types_are_checked() {
    let sandbox = sandbox(|_| ());
    let contact = create(&sandbox, "name=Ada").await;
    let check = async |method: &str, address: &str, media_type: &str, status: u16| {
        let (answered, body) = send(&sandbox, request(method, address, media_type, "name=A")).await;
        assert_eq!((answered, &body["type"]), (status, &json!("invalid_request")), "{method} {address}");
    };
    check("GET", "/contact", FORM, 404).await;
    check("GET", "/contacts/", FORM, 404).await;
    check("GET", "/contactsx", FORM, 404).await;
    check("GET", &format!("{contact}/jobs"), FORM, 404).await;
    check("GET", "/contacts/con_0", FORM, 404).await;
    check("POST", "/contacts/con_0", FORM, 404).await;
    check("DELETE", "/contacts/con_0", FORM, 404).await;
    check("DELETE", "/contacts", FORM, 405).await;
    check("PUT", &contact, FORM, 405).await;
    check("PATCH", &contact, JSON, 405).await;
    check("POST", "/contacts", "text/plain", 415).await;
    check("POST", "/contacts", JSON, 400).await;
    assert_eq!(send(&sandbox, request("GET", &contact.replace('_', "%5F"), FORM, "")).await.0, 200);
    assert_eq!(sandbox.contacts()[0]["writes"], 1);
}

#[tokio::test]
async fn every_create_makes_a_new_contact_with_an_id_from_the_seed() {
    let ids = async |seed| {
        let sandbox = sandbox(|settings| settings.seed = seed);
        for _ in 0..3 {
            create(&sandbox, EXAMPLE).await;
        }
        let contacts = sandbox.contacts();
        assert!(contacts.iter().all(|contact| contact["reference"] == "ct-000451"), "three that are the same");
        contacts.iter().map(|contact| contact["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (ours, others) = (ids(5).await, ids(6).await);
    assert_eq!(ours, ids(5).await);
    let different: BTreeSet<&String> = ours.iter().chain(&others).collect();
    assert_eq!(different.len(), 6);
    assert!(different.iter().all(|id| id.starts_with("con_")));
}

#[tokio::test]
async fn an_update_leaves_what_it_does_not_mention_and_an_empty_value_clears() {
    let sandbox = sandbox(|_| ());
    let contact =
        create(&sandbox, "name=Ada&phone=%2B45&note=x&archived=true&ean=1&location[]=9.5&location[]=55").await;
    let (_, answer) = post(&sandbox, &contact, "phone=&email=a%40b&archived=&note=").await;
    assert_eq!(answer["phone"], Value::Null);
    assert_eq!((&answer["email"], &answer["ean"]), (&json!("a@b"), &json!("1")));
    assert_eq!((&answer["archived"], &answer["location"]), (&json!(false), &json!([9.5, 55.0])));
    assert!(answer.get("note").is_none(), "shown only where there is one");
    let (_, answer) = post_json(&sandbox, &contact, json!({ "email": null, "ean": "", "location": null })).await;
    assert_eq!([&answer["email"], &answer["ean"], &answer["location"]], [&Value::Null; 3]);
    assert_eq!(post(&sandbox, &contact, "").await, (200, answer), "nothing said, nothing changed");
    assert_eq!(sandbox.contacts()[0]["writes"], 4);
}

#[tokio::test]
async fn a_form_merges_meta_key_by_key_and_json_replaces_it() {
    let sandbox = sandbox(|_| ());
    let contact = create(&sandbox, "name=Ada&meta[a]=1&meta[b]=2&meta[c%20d]=%26").await;
    let (_, answer) = post(&sandbox, &contact, "meta[b]=&meta%5Be%5D=5").await;
    assert_eq!(answer["meta"], json!({ "a": "1", "c d": "&", "e": "5" }));
    let (_, answer) = post_json(&sandbox, &contact, json!({ "meta": { "z": "9", "gone": null } })).await;
    assert_eq!(answer["meta"], json!({ "z": "9" }));
    let (_, answer) = post(&sandbox, &contact, "meta=").await;
    assert_eq!(answer["meta"], json!({}));
}

#[tokio::test]
async fn what_breaks_a_rule_is_refused_by_name_and_stores_nothing() {
    let sandbox = sandbox(|_| ());
    let contact = create(&sandbox, "name=Ada").await;
    let before = sandbox.contacts();
    let refused = |(status, answer): (u16, Value), param: &str| {
        assert_eq!((status, &answer["type"]), (400, &json!("invalid_request")), "{param}");
        assert_eq!(answer["param"], param, "{answer}");
        assert!(answer["message"].is_string());
    };
    refused(post(&sandbox, "/contacts", "email=a%40b").await, "name");
    refused(post(&sandbox, "/contacts", "name=%20").await, "name");
    refused(post_json(&sandbox, "/contacts", json!({})).await, "name");
    for (form, param) in [
        ("name=", "name"),
        ("name=A&name=B", "name"),
        ("name[]=A", "name"),
        ("phone=4520555012", "phone"),
        ("email=nobody", "email"),
        ("countryCode=DNK", "countryCode"),
        ("countryCode=dk", "countryCode"),
        ("accountingMode=addtodraft", "accountingMode"),
        ("accountingTime=Later", "accountingTime"),
        ("invoiceDelivery=Post", "invoiceDelivery"),
        ("archived=1", "archived"),
        ("notifyBeforeWork=True", "notifyBeforeWork"),
        ("payingContactId=con_0", "payingContactId"),
        ("location=10.5,56.8", "location"),
        ("location[]=10.5", "location"),
        ("location[]=10.5&location[]=56.8&location[]=1", "location"),
        ("location[]=10.5&location[]=", "location"),
        ("location[]=10.5&location[]=NaN", "location"),
        ("location[]=181&location[]=56.8", "location"),
        ("location[]=56.8&location[]=100.5", "location"),
        ("location[0]=10.5&location[1]=56.8", "location"),
        ("meta=x", "meta"),
        ("meta[]=x", "meta"),
        ("meta[a][b]=x", "meta"),
        ("meta[a]=1&meta[a]=2", "meta"),
        ("meta=&meta[a]=2", "meta"),
    ] {
        refused(post(&sandbox, &contact, &format!("note=x&{form}")).await, param);
    }
    for (member, value) in [
        ("name", json!(null)),
        ("name", json!(1)),
        ("phone", json!(4520555012_u64)),
        ("number", json!(1.5)),
        ("archived", json!("true")),
        ("location", json!([10.5])),
        ("location", json!(["10.5", "56.8"])),
        ("location", json!({ "lon": 10.5, "lat": 56.8 })),
        ("meta", json!({ "a": 1 })),
        ("meta", json!("x")),
        ("meta", json!({ "a": { "b": "c" } })),
    ] {
        refused(post_json(&sandbox, &contact, json!({ "note": "x", member: value })).await, member);
    }
    for form in ["note=%zz", "note=%ff"] {
        let (status, answer) = post(&sandbox, &contact, form).await;
        assert_eq!((status, answer.get("param")), (400, None), "{form}");
    }
    let (status, answer) = post_json(&sandbox, &contact, json!(["note"])).await;
    assert_eq!((status, answer.get("param")), (400, None));
    assert_eq!(sandbox.contacts(), before);
}

#[tokio::test]
async fn a_paying_contact_is_another_contact_and_may_be_named_again_after_it_went() {
    let sandbox = sandbox(|_| ());
    let (payer, contact) = (create(&sandbox, "name=Payer").await, create(&sandbox, "name=Ada").await);
    let id = |address: &str| address.trim_start_matches("/contacts/").to_owned();
    let pays = |address: &str| format!("payingContactId={}", id(address));
    assert_eq!(post(&sandbox, &contact, &pays(&contact)).await.0, 400, "not for itself");
    assert_eq!(post(&sandbox, &contact, &pays(&payer)).await.1["payingContactId"], id(&payer));
    assert_eq!(delete(&sandbox, &id(&payer)).await, 204);
    assert_eq!(post(&sandbox, &contact, &pays(&payer)).await.0, 200);
    assert_eq!(post(&sandbox, "/contacts", &format!("name=B&{}", pays(&payer))).await.0, 400);
}

#[tokio::test]
async fn a_number_may_be_sent_as_an_integer_and_is_text_and_not_unique() {
    let sandbox = sandbox(|_| ());
    for _ in 0..2 {
        let (status, answer) = post_json(&sandbox, "/contacts", json!({ "name": "Ada", "number": 7 })).await;
        assert_eq!((status, &answer["number"]), (200, &json!("7")));
    }
    assert_eq!(sandbox.contacts().len(), 2);
}

#[tokio::test]
async fn what_is_no_argument_is_ignored_and_counted() {
    let sandbox = sandbox(|_| ());
    let own = "id=con_1&remoteId=r&remoteOrderId=o&agentIds[]=a&apartment=1&Name=B";
    let contact = create(&sandbox, &format!("name=Ada&{own}")).await;
    post_json(&sandbox, &contact, json!({ "apartment": "2", "agentIds": ["a"] })).await;
    get(&sandbox, "/contacts?q=x").await;
    let (_, answer) = get(&sandbox, &contact).await;
    assert_eq!((&answer["name"], &answer["agentIds"]), (&json!("Ada"), &json!([])));
    assert_eq!([&answer["remoteId"], &answer["remoteOrderId"], &answer["appartment"]], [&Value::Null; 3]);
    assert_ne!(answer["id"], "con_1");
    let expected =
        json!({ "id": 1, "remoteId": 1, "remoteOrderId": 1, "agentIds": 2, "apartment": 2, "Name": 1, "q": 1 });
    assert_eq!(page(&sandbox, "contacts").await["ignoredArguments"], expected);
}

#[tokio::test]
async fn names_that_are_ignored_are_counted_in_a_bounded_space() {
    let sandbox = sandbox(|_| ());
    let contact = create(&sandbox, "name=Ada").await;
    for number in 0..IGNORED_MAX + 5 {
        post(&sandbox, &contact, &format!("other{number}=x&other0=x")).await;
    }
    let page = page(&sandbox, "contacts").await;
    let ignored = page["ignoredArguments"].as_object().unwrap();
    assert_eq!((ignored.len(), &ignored[OTHERS]), (IGNORED_MAX + 1, &json!(5)));
}

#[tokio::test]
async fn the_location_follows_the_address_unless_it_is_said() {
    let sandbox = sandbox(|_| ());
    let (_, nowhere) = post(&sandbox, "/contacts", "name=Ada&countryCode=DK").await;
    assert_eq!(nowhere["location"], Value::Null, "a country alone is no address");
    let contact = create(&sandbox, "name=Ada&address=Kundevej%202&postalCode=4321&city=Kundeby&countryCode=DK").await;
    let (_, answer) = get(&sandbox, &contact).await;
    assert_eq!(answer["location"], json!([10.5286863, 56.8039035]), "as the documents show it");
    let (_, moved) = post(&sandbox, &contact, "address=Kundevej%203").await;
    assert_ne!(moved["location"], answer["location"]);
    let (_, other) =
        post(&sandbox, "/contacts", "name=B&address=Kundevej%203&postalCode=4321&city=Kundeby&countryCode=DK").await;
    assert_eq!(other["location"], moved["location"], "the same address is at the same place");
    let (longitude, latitude) = (&moved["location"][0], &moved["location"][1]);
    assert!(longitude.as_f64().unwrap().abs() <= 180.0 && latitude.as_f64().unwrap().abs() <= 90.0);
    let (_, said) = post(&sandbox, &contact, "address=Kundevej%202&location[]=1.5&location[]=2.5").await;
    assert_eq!(said["location"], json!([1.5, 2.5]));
    let (_, same) = post(&sandbox, &contact, "address=Kundevej%202&phone=%2B1").await;
    assert_eq!(same["location"], json!([1.5, 2.5]), "the address did not change");
    let (_, gone) = post(&sandbox, &contact, "address=&postalCode=&city=&countryCode=").await;
    assert_eq!(gone["location"], json!([1.5, 2.5]), "without an address there is nothing to derive it from");
}

#[tokio::test]
async fn a_search_finds_parts_of_the_documented_fields_in_any_case_and_nothing_in_meta() {
    let sandbox = sandbox(|_| ());
    let fields = "number=Ct-7&email=ada%40Example.com&phone=%2B4520&address=Åvej%201&city=Ørsted";
    create(&sandbox, &format!("name=Ada Lovelace&{fields}&note=secret&postalCode=8000&ean=99&meta[externalRef]=ref-1"))
        .await;
    for text in ["LOVE", "a%20l", "a+l", "ct-7", "example.COM", "%2B4520", "åVEJ", "øRST"] {
        assert_eq!(names(&sandbox, &format!("search={text}")).await.len(), 1, "{text}");
    }
    for text in ["ref-1", "secret", "8000", "99", "lovelacect", "ct-70", "Ada%01Ct"] {
        assert!(names(&sandbox, &format!("search={text}")).await.is_empty(), "{text}");
    }
    post(&sandbox, &format!("/contacts/{}", sandbox.contacts()[0]["id"].as_str().unwrap()), "number=ct-8").await;
    assert!(names(&sandbox, "search=ct-7").await.is_empty(), "what it was is not found any more");
    assert_eq!(names(&sandbox, "search=").await.len(), 1, "no text is no search");
}

#[tokio::test]
async fn lists_are_ordered_by_creation_and_their_size_is_clamped() {
    let sandbox = sandbox(|_| ());
    for number in 0..105 {
        create(&sandbox, &format!("name=n{number}&archived={}", number % 2 == 0)).await;
    }
    let first = |count: usize| (0..count).map(|number| format!("n{number}")).collect::<Vec<_>>();
    assert_eq!(names(&sandbox, "").await, first(20));
    assert_eq!(names(&sandbox, "size=100").await, first(100));
    assert_eq!(names(&sandbox, "size=1000").await, first(100));
    assert_eq!(names(&sandbox, "size=0").await, first(1));
    assert_eq!(names(&sandbox, "size=-3").await, first(1));
    assert_eq!(names(&sandbox, "size=100&page=1").await, ["n100", "n101", "n102", "n103", "n104"]);
    assert!(names(&sandbox, "size=100&page=2").await.is_empty());
    assert!(names(&sandbox, "size=100&page=18446744073709551615").await.is_empty());
    let answer = sandbox.handle(request("GET", "/contacts?search=n10&size=2", FORM, "")).await.unwrap();
    assert_eq!(answer.headers()["x-total-count"], "6", "n10, and n100 to n104");
}

#[tokio::test]
async fn a_list_that_cannot_be_made_is_refused() {
    let sandbox = sandbox(|_| ());
    for (query, param) in [
        ("page=-1", "page"),
        ("page=x", "page"),
        ("size=x", "size"),
        ("nearby=1", "nearby"),
        ("search=a&nearby=1,2", "nearby"),
    ] {
        let (status, answer) = get(&sandbox, &format!("/contacts?{query}")).await;
        assert_eq!((status, &answer["param"]), (400, &json!(param)), "{query}");
    }
    assert_eq!(get(&sandbox, "/contacts?search=%zz").await.0, 400);
}

#[tokio::test]
async fn nearby_lists_the_nearest_first_and_those_without_a_location_last() {
    let sandbox = sandbox(|_| ());
    create(&sandbox, "name=nowhere").await;
    for (name, longitude, latitude) in [("far", "12.5", "55.6"), ("near", "10.2", "56.1"), ("between", "10.4", "55.4")]
    {
        create(&sandbox, &format!("name={name}&location[]={longitude}&location[]={latitude}")).await;
    }
    assert_eq!(names(&sandbox, "nearby=10.2,56.2").await, ["near", "between", "far", "nowhere"]);
}

#[tokio::test]
async fn a_deletion_in_between_moves_the_pages() {
    let sandbox = sandbox(|_| ());
    let mut addresses = Vec::new();
    for number in 0..5 {
        addresses.push(create(&sandbox, &format!("name=n{number}")).await);
    }
    assert_eq!(names(&sandbox, "size=2&page=0").await, ["n0", "n1"]);
    assert_eq!(delete(&sandbox, addresses[0].trim_start_matches("/contacts/")).await, 204);
    assert_eq!(names(&sandbox, "size=2&page=1").await, ["n3", "n4"], "n2 went by unseen");
    assert!(names(&sandbox, "size=2&page=2").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_search_lags_behind_and_nothing_else_does() {
    let sandbox = sandbox(|settings| settings.previsto.search_lag = Duration::from_secs(2));
    let contact = create(&sandbox, "name=Ada&number=c-1").await;
    assert!(names(&sandbox, "search=c-1").await.is_empty());
    assert_eq!(get(&sandbox, &contact).await.0, 200);
    assert_eq!(names(&sandbox, "").await, ["Ada"]);
    tokio::time::sleep(Duration::from_millis(1_999)).await;
    assert!(names(&sandbox, "search=c-1").await.is_empty());
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(names(&sandbox, "search=c-1").await, ["Ada"]);
    post(&sandbox, &contact, "number=c-2").await;
    assert_eq!(names(&sandbox, "search=c-2").await, ["Ada"], "only new contacts are late");
}

#[tokio::test]
async fn a_create_whose_answer_is_lost_has_landed_and_its_repeat_is_a_duplicate() {
    let sandbox = sandbox(|settings| {
        settings.faults.script = vec![Scripted::every(3, Action::Create, Instead::ResetAfter)];
    });
    let mut lost = Vec::new();
    for number in 1..=6 {
        let form = format!("name=Ada&number=c-{number}");
        assert_eq!(get(&sandbox, "/contacts?search=c").await.0, 200, "searches are neither counted nor struck");
        if sandbox.handle(request("POST", "/contacts", FORM, &form)).await.map(drop) == Err(Reset::Closed) {
            lost.push(number);
        }
    }
    assert_eq!(lost, [3, 6]);
    assert_eq!(sandbox.contacts().len(), 6);
    create(&sandbox, "name=Ada&number=c-3").await;
    let same = sandbox.contacts().iter().filter(|contact| contact["reference"] == "c-3").count();
    assert_eq!(same, 2);
}

#[tokio::test(start_paused = true)]
async fn faults_keep_to_their_class_of_requests() {
    let search = Only::action(Action::Search);
    let (from, lasts) = (Duration::ZERO, Duration::from_secs(1));
    let sandbox = sandbox(|settings| {
        settings.faults = FaultPlan {
            windows: vec![Window { from, lasts, only: search, fault: Fault::status(503) }],
            script: vec![
                Scripted { only: Only::action(Action::Delete), ..Scripted::at(1, Fault::status_after_effect(500)) },
                Scripted { only: Only::action(Action::Get), ..Scripted::at(2, Fault::status(404)) },
                Scripted {
                    only: Only { contact: Some("c-1".to_owned()), ..Only::action(Action::Update) },
                    ..Scripted::at(1, Instead::ResetBefore)
                },
            ],
            ..FaultPlan::default()
        };
    });
    let (one, two) =
        (create(&sandbox, "name=One&number=c-1").await, create(&sandbox, "name=Two&meta[externalRef]=c-2").await);
    assert_eq!(get(&sandbox, "/contacts?search=c").await.0, 503);
    assert_eq!(
        (get(&sandbox, &one).await.0, get(&sandbox, &one).await.0, get(&sandbox, &one).await.0),
        (200, 404, 200)
    );
    assert_eq!(post(&sandbox, &two, "name=Other").await.0, 200);
    let update = sandbox.handle(request("POST", &one, FORM, "name=Other")).await;
    assert_eq!(update.map(drop), Err(Reset::Closed));
    assert_eq!(sandbox.contact("c-1").unwrap()["name"], "One");
    assert_eq!(delete(&sandbox, two.trim_start_matches("/contacts/")).await, 500);
    assert!(sandbox.contact("c-2").is_none(), "it is gone nevertheless");
    tokio::time::sleep(lasts).await;
    assert_eq!(names(&sandbox, "search=c").await, ["One"]);
}

#[tokio::test]
async fn the_books_tell_duplicates_deletions_and_whom_each_request_was_about() {
    let sandbox = sandbox(|settings| settings.log_bodies = true);
    let first = create(&sandbox, "name=Ada&number=n-1&meta[externalRef]=c-1").await;
    let second = create(&sandbox, "name=Ada&number=c-1").await;
    let [first_id, second_id] = [&first, &second].map(|address| address.trim_start_matches("/contacts/"));
    assert_eq!(sandbox.contact("c-1").unwrap()["id"], second_id, "the newest");
    get(&sandbox, "/contacts?search=c-1").await;
    get(&sandbox, "/contacts?search=c-9").await;
    post(&sandbox, &second, "phone=%2B1").await;
    assert_eq!(delete(&sandbox, second_id).await, 204);
    assert_eq!(delete(&sandbox, second_id).await, 404);
    get(&sandbox, "/contacts/con_0").await;
    assert_eq!(sandbox.contact("c-1").unwrap()["id"], first_id);

    let books = page(&sandbox, "contacts").await;
    assert_eq!(books["contacts"].as_array().unwrap().len(), 1);
    let contact = &books["contacts"][0];
    assert_eq!(
        (&contact["id"], &contact["reference"], &contact["writes"]),
        (&json!(first_id), &json!("c-1"), &json!(1))
    );
    assert_eq!(contact["fields"], get(&sandbox, &first).await.1);
    assert_eq!(books["deleted"], json!([{ "id": second_id, "reference": "c-1", "writes": 2 }]));

    let log = page(&sandbox, "requests").await;
    let told = |request: &Value| {
        let text = |name: &str| request[name].as_str().map(str::to_owned);
        (
            text("action").unwrap(),
            text("contact"),
            text("remote_id"),
            request["effect"].as_u64(),
            request["status"].clone(),
        )
    };
    let requests: Vec<_> = log["requests"].as_array().unwrap().iter().map(told).collect();
    let expected = [
        ("create", Some("c-1"), Some(first_id), Some(1), 200),
        ("create", Some("c-1"), Some(second_id), Some(2), 200),
        ("search", Some("c-1"), None, None, 200),
        ("search", None, None, None, 200),
        ("update", Some("c-1"), Some(second_id), Some(3), 200),
        ("delete", Some("c-1"), Some(second_id), Some(4), 204),
        ("delete", Some("c-1"), Some(second_id), None, 404),
        ("get", None, Some("con_0"), None, 404),
        ("get", Some("c-1"), Some(first_id), None, 200),
    ]
    .map(|(action, contact, remote_id, effect, status)| {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        (action.to_owned(), owned(contact), owned(remote_id), effect, json!(status))
    });
    assert_eq!(requests, expected);
    assert_eq!(log["requests"][2]["query"], "search=c-1");
    let answer: Value = serde_json::from_str(log["requests"][8]["answer"].as_str().unwrap()).unwrap();
    assert_eq!(answer, contact["fields"]);
}

#[tokio::test]
async fn no_debug_output_shows_a_contact() {
    let sandbox = sandbox(|settings| settings.log_bodies = true);
    create(&sandbox, "name=canary").await;
    get(&sandbox, "/contacts?search=canary").await;
    assert!(!format!("{sandbox:?} {:?}", sandbox.requests()).contains("canary"));
}
