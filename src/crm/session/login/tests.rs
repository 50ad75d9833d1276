use std::{collections::VecDeque, path::PathBuf};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header::AUTHORIZATION};

use super::*;
use crate::crm::{RequestKind, TransportError};

const INTERVAL: Duration = Duration::from_secs(30);

/// `POST /login` with the password as body, and `POST /refresh` with the refresh token.
#[derive(Debug)]
struct Door;

fn post(path: &str, body: &Secret) -> Request {
    Request {
        method: Method::POST,
        path: path.to_owned(),
        headers: Vec::new(),
        body: Bytes::from(body.expose().to_owned()),
        kind: RequestKind::Read,
    }
}

fn failure(class: FailureClass) -> Failure {
    Failure { class, effect: Effect::None, reason: ReasonCode::Refused.into(), retry_after: None }
}

impl Login for Door {
    fn log_in(&self, secrets: &[Secret]) -> Request {
        post("/login", &secrets[0])
    }

    fn refresh(&self, _secrets: &[Secret], refresh_token: &Secret) -> Option<Request> {
        Some(post("/refresh", refresh_token))
    }

    fn release(&self) -> Option<Request> {
        Some(post("/release", &Secret::new("it")))
    }

    fn read(&self, answer: &Answer) -> Result<Token, LoginFailure> {
        let Ok(response) = answer else { return Err(failure(FailureClass::Transient).into()) };
        match response.status.as_u16() {
            200 => self.renewed_by(response).ok_or_else(|| failure(FailureClass::Connection).into()),
            423 => Err(LoginFailure { failure: failure(FailureClass::Auth), again_after: Some(3 * INTERVAL) }),
            401 => Err(failure(FailureClass::Auth).into()),
            _ => Err(failure(FailureClass::Transient).into()),
        }
    }

    /// A body like `token 60 refresh`: text, seconds, and perhaps a refresh token.
    fn renewed_by(&self, response: &Response) -> Option<Token> {
        let mut words = std::str::from_utf8(&response.body).unwrap().split(' ');
        let secret = Secret::new(words.next().filter(|word| !word.is_empty())?);
        let life = Duration::from_secs(words.next().unwrap().parse().unwrap());
        Some(Token { secret, life, refresh_token: words.next().map(Secret::new) })
    }
}

/// Answers from a list; keeps what was asked.
#[derive(Debug, Default)]
struct Script {
    answers: parking_lot::Mutex<VecDeque<(u16, &'static str)>>,
    asked: parking_lot::Mutex<Vec<String>>,
}

impl Script {
    fn then(&self, status: u16, body: &'static str) {
        self.answers.lock().push_back((status, body));
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock())
    }
}

fn response(status: u16, body: &'static str) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    Response { status, headers: HeaderMap::new(), body: Bytes::from_static(body.as_bytes()) }
}

#[async_trait]
impl Transport for Script {
    async fn exchange(&self, request: Request) -> Answer {
        let body = String::from_utf8(request.body.to_vec()).unwrap();
        self.asked.lock().push(format!("{} {body}", request.path));
        // Others get their turn meanwhile.
        tokio::time::sleep(Duration::from_millis(10)).await;
        match self.answers.lock().pop_front().expect("an answer is prepared") {
            (0, _) => Err(TransportError::NotSent { reason: "no route".to_owned() }),
            (status, body) => Ok(response(status, body)),
        }
    }
}

struct Setup {
    session: Arc<LoginSession>,
    script: Arc<Script>,
    password: PathBuf,
    folder: tempfile::TempDir,
}

fn setup() -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "sesame\n").unwrap();
    let terms = LoginTerms {
        crm: "door".into(),
        secrets: vec![SecretSource::File(password.clone())],
        placement: Placement::bearer(),
        renew_before: Duration::from_secs(60),
        interval_min: INTERVAL,
        refresh_token_file: Some(folder.path().join("refresh")),
    };
    let session = Arc::new(LoginSession::new(Door, terms).unwrap());
    Setup { session, script: Arc::default(), password, folder }
}

impl Setup {
    fn credential(&self) -> (String, CredentialNumber) {
        let mut request = post("/", &Secret::new(""));
        let number = self.session.authorize(&mut request);
        let [(AUTHORIZATION, value)] = request.headers.as_slice() else { panic!("one header") };
        (value.to_str().unwrap().to_owned(), number)
    }

    async fn ready(&self) -> Result<(), FailureClass> {
        class_of(self.session.ready(&*self.script).await)
    }

    async fn renew(&self) -> Result<bool, FailureClass> {
        class_of(self.session.renew(self.session.number(), &*self.script).await)
    }
}

fn class_of<T>(renewed: Result<T, RenewalError>) -> Result<T, FailureClass> {
    renewed.map_err(|error| match error {
        RenewalError::Login(failure) => failure.class,
        RenewalError::Secret(error) => panic!("{error}"),
    })
}

#[tokio::test(start_paused = true)]
async fn the_first_request_logs_in_and_all_that_wait_share_it() {
    let setup = setup();
    setup.script.then(200, "first 600");
    let ready = futures::future::join_all((0..5).map(|_| setup.ready())).await;
    assert_eq!(ready, [Ok(()); 5]);
    assert_eq!(setup.script.asked(), ["/login sesame"]);
    assert_eq!(setup.credential().0, "Bearer first");
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_before_it_ends_and_used_meanwhile() {
    let setup = setup();
    setup.script.then(200, "first 600");
    setup.ready().await.unwrap();
    tokio::time::advance(Duration::from_secs(539)).await;
    setup.ready().await.unwrap();
    assert_eq!(setup.script.asked().len(), 1);

    tokio::time::advance(Duration::from_secs(2)).await;
    setup.script.then(200, "second 600");
    let (renewing, other) = (setup.session.clone(), setup.script.clone());
    let renewal = tokio::spawn(async move { class_of(renewing.ready(&*other).await) });
    tokio::task::yield_now().await;
    setup.ready().await.unwrap();
    assert_eq!(setup.credential().0, "Bearer first", "nobody waits for what is not needed yet");
    renewal.await.unwrap().unwrap();
    assert_eq!(setup.credential().0, "Bearer second");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_cannot_be_renewed_early_is_used_to_its_end() {
    let setup = setup();
    setup.script.then(200, "first 600");
    setup.ready().await.unwrap();
    tokio::time::advance(Duration::from_secs(550)).await;
    setup.script.then(503, "");
    setup.ready().await.unwrap();
    tokio::time::advance(Duration::from_secs(51)).await;
    setup.script.then(0, "");
    assert_eq!(setup.ready().await, Err(FailureClass::Transient));
}

#[tokio::test(start_paused = true)]
async fn a_short_life_does_not_make_each_request_log_in() {
    let setup = setup();
    setup.script.then(200, "first 40");
    setup.ready().await.unwrap();
    tokio::time::advance(Duration::from_secs(19)).await;
    setup.ready().await.unwrap();
    assert_eq!(setup.script.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_costs_one_login_for_all_who_carried_it() {
    let setup = setup();
    setup.script.then(200, "first 600");
    setup.ready().await.unwrap();
    let number = setup.credential().1;
    tokio::time::advance(INTERVAL).await;
    setup.script.then(200, "second 600");
    let renewed = futures::future::join_all((0..5).map(|_| setup.session.renew(number, &*setup.script))).await;
    assert!(renewed.into_iter().all(|renewed| renewed.unwrap()));
    assert_eq!(setup.script.asked(), ["/login sesame"; 2]);
    assert_eq!(setup.credential().0, "Bearer second");
}

#[tokio::test(start_paused = true)]
async fn logins_keep_their_distance() {
    let setup = setup();
    setup.script.then(503, "");
    assert_eq!(setup.ready().await, Err(FailureClass::Transient));
    tokio::time::advance(Duration::from_secs(10)).await;
    let Err(RenewalError::Login(failure)) = setup.session.ready(&*setup.script).await else { panic!("too soon") };
    assert_eq!(failure.class, FailureClass::Throttled);
    let RetryAfter::Delay(wait) = failure.retry_after.unwrap() else { panic!("a delay") };
    assert!(wait > Duration::from_secs(19) && wait <= Duration::from_secs(20), "{wait:?}");
    tokio::time::advance(wait).await;
    setup.script.then(200, "first 600");
    setup.ready().await.unwrap();
    assert_eq!(setup.script.asked().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn refused_secrets_are_tried_again_only_once_they_are_others() {
    let setup = setup();
    setup.script.then(401, "");
    assert_eq!(setup.ready().await, Err(FailureClass::Auth));
    tokio::time::advance(100 * INTERVAL).await;
    assert_eq!(setup.ready().await, Err(FailureClass::Auth));
    assert_eq!(setup.script.asked(), ["/login sesame"], "a wrong password is sent once");
    std::fs::write(&setup.password, "open").unwrap();
    setup.script.then(200, "first 600");
    setup.ready().await.unwrap();
    assert_eq!(setup.script.asked(), ["/login open"]);
}

#[tokio::test(start_paused = true)]
async fn secrets_of_a_locked_account_are_tried_again_later() {
    let setup = setup();
    setup.script.then(423, "");
    assert_eq!(setup.ready().await, Err(FailureClass::Auth));
    tokio::time::advance(2 * INTERVAL).await;
    assert_eq!(setup.ready().await, Err(FailureClass::Auth));
    tokio::time::advance(INTERVAL).await;
    setup.script.then(200, "first 600");
    setup.ready().await.unwrap();
    assert_eq!(setup.script.asked().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_spares_the_password_until_it_is_refused() {
    let setup = setup();
    setup.script.then(200, "first 600 r1");
    setup.ready().await.unwrap();
    setup.script.then(200, "second 600 r2");
    assert!(setup.renew().await.unwrap());
    tokio::time::advance(INTERVAL).await;
    setup.script.then(401, "");
    setup.script.then(200, "third 600 r3");
    assert!(setup.renew().await.unwrap());
    assert_eq!(setup.script.asked(), ["/login sesame", "/refresh r1", "/refresh r2", "/login sesame"]);
    setup.script.then(0, "");
    assert_eq!(setup.renew().await, Err(FailureClass::Transient), "nobody answered: the refresh token may be good");
    assert_eq!(setup.script.asked(), ["/refresh r3"]);
    let stored = setup.folder.path().join("refresh");
    assert_eq!(std::fs::read_to_string(&stored).unwrap(), "r3", "the next process goes on with it");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&stored).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test(start_paused = true)]
async fn a_password_that_was_replaced_is_used_although_the_token_was_not_refused() {
    let setup = setup();
    setup.script.then(200, "first 600 r1");
    setup.ready().await.unwrap();
    setup.session.look_again().await;
    setup.ready().await.unwrap();
    assert_eq!(setup.script.asked(), ["/login sesame"], "it is the same password");
    tokio::time::advance(INTERVAL).await;
    std::fs::write(&setup.password, "open").unwrap();
    setup.session.look_again().await;
    setup.script.then(200, "second 600 r2");
    setup.ready().await.unwrap();
    assert_eq!(setup.script.asked(), ["/login open"], "and not the refresh token of whoever had no right");
    std::fs::remove_file(&setup.password).unwrap();
    setup.session.look_again().await;
    setup.ready().await.unwrap();
    assert_eq!(setup.credential().0, "Bearer second", "a file that is away takes nothing away");
}

/// As OAuth has it: the refresh token of the first grant is a secret, and lies in the file that takes each new one.
#[tokio::test(start_paused = true)]
async fn a_refresh_token_of_another_grant_is_used_in_place_of_the_one_that_was_stored() {
    let setup = setup();
    let file = setup.folder.path().join("refresh");
    std::fs::write(&file, "r0").unwrap();
    let terms = LoginTerms {
        secrets: vec![SecretSource::File(file.clone())],
        interval_min: Duration::from_secs(10),
        ..setup.session.terms.clone()
    };
    let session = LoginSession::new(Door, terms).unwrap();
    setup.script.then(200, "first 600 r1");
    session.ready(&*setup.script).await.unwrap();
    assert_eq!(setup.script.asked(), ["/login r0"]);
    let renew = async || class_of(session.renew(session.number(), &*setup.script).await);
    tokio::time::advance(INTERVAL).await;
    setup.script.then(200, "second 600 r2");
    assert!(renew().await.unwrap());
    assert_eq!(setup.script.asked(), ["/refresh r1"], "what it stored itself is its own");
    std::fs::write(&file, "another").unwrap();
    setup.script.then(200, "third 600 r3");
    assert!(renew().await.unwrap());
    assert_eq!(setup.script.asked(), ["/login another"]);
    std::fs::write(&file, "dead").unwrap();
    tokio::time::advance(INTERVAL).await;
    setup.script.then(401, "");
    assert_eq!(renew().await, Err(FailureClass::Auth));
    assert_eq!(setup.script.asked(), ["/login dead"], "r3 is not tried either: it belongs to the grant before");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_comes_with_an_answer_is_taken_over_once() {
    let setup = setup();
    setup.script.then(200, "first 600");
    setup.ready().await.unwrap();
    let number = setup.credential().1;
    setup.session.answered(number, &response(200, ""));
    assert_eq!(setup.credential().0, "Bearer first");
    setup.session.answered(number, &response(200, "second 600"));
    setup.session.answered(number, &response(200, "late 600"));
    assert_eq!(setup.credential().0, "Bearer second");
    assert!(setup.session.renew(number, &*setup.script).await.unwrap(), "the refused one is not in use any more");
}

#[test]
fn nothing_of_a_session_prints_a_secret() {
    let setup = setup();
    let token = Token { secret: Secret::new("canary"), life: INTERVAL, refresh_token: Some(Secret::new("canary")) };
    setup.session.put_in_use(token.clone(), Instant::now()).unwrap();
    assert!(!format!("{:?} {token:?}", setup.session).contains("canary"));
    std::fs::remove_file(&setup.password).unwrap();
    assert!(matches!(LoginSession::new(Door, setup.session.terms.clone()), Err(SessionError::File { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_gives_its_token_back_once() {
    let setup = setup();
    let end = async || setup.session.end(&*setup.script).await;
    end().await;
    assert_eq!(setup.script.asked(), Vec::<String>::new(), "there is none");
    setup.script.then(200, "one 600");
    setup.session.ready(&*setup.script).await.unwrap();
    assert_eq!(setup.script.asked(), ["/login sesame"]);
    // Whether it was taken makes no difference.
    setup.script.then(500, "");
    end().await;
    end().await;
    assert_eq!(setup.script.asked(), ["/release it"]);
    tokio::time::sleep(INTERVAL).await;
    setup.script.then(200, "two 600");
    setup.session.ready(&*setup.script).await.unwrap();
    assert_eq!((setup.script.asked(), setup.credential().0.as_str()), (vec!["/login sesame".to_owned()], "Bearer two"));
    tokio::time::sleep(Duration::from_secs(600)).await;
    end().await;
    assert_eq!(setup.script.asked(), Vec::<String>::new(), "it has ended by itself");
}
