//! What opens the door of each CRM, in each of the ways that there are: a token that is configured, a login, an OAuth
//! grant. Wrong or without the right, it pauses its CRM and costs no contact; put right, all goes on by itself; ended, it
//! costs each worker one login.

use std::{path::PathBuf, time::Duration};

use contact_replicator::{
    cli::demo::evidence::Evidence,
    config::{CrmComLogin, CrmKind, LoginAs, LoginForm, PriavaAuth},
    event::{Outcome, OutcomeKind},
    explain::{Asked, Paused, words},
    sandbox::{
        Action, Fault, FaultPlan, Instead, LogisenseSettings, NextinteractSamSettings, OAuthSettings, Only,
        PriavaSettings, SamDoorSettings, Scripted, Window,
    },
};
use tokio::time::sleep;

use crate::{
    lines::Lines,
    scene::{Scene, change, play},
    world::{CRM, Setup, Tenant, World},
};

const CONTACTS: u64 = 40;
/// As the user name of HTTP Basic, too, it can be sent.
const RIGHT: &str = "the-right-one";

/// A way in.
struct Door {
    tenant: &'static [Tenant],
    prepare: fn(&mut World),
    /// Where logins go; `None` where the credential itself is shown with each call.
    login: Option<&'static str>,
}

const PRIAVA: &[Tenant] = &[Tenant { name: CRM, kind: CrmKind::Priava }];
const PREVISTO: &[Tenant] = &[Tenant { name: "previsto", kind: CrmKind::Previsto }];
const SAM: &[Tenant] = &[Tenant { name: "sam", kind: CrmKind::NextinteractSam }];
const CRM_COM: &[Tenant] = &[Tenant { name: "crm-com", kind: CrmKind::CrmCom }];
const BILLING: &[Tenant] = &[Tenant { name: "billing", kind: CrmKind::Logisense }];

const PRIAVA_TOKEN: Door = Door { tenant: PRIAVA, prepare: |_| (), login: None };
const PRIAVA_OAUTH: Door = Door { tenant: PRIAVA, prepare: with_oauth, login: Some("/api/rest/oauth/token") };
const PRIAVA_CODE: Door = Door { tenant: PRIAVA, prepare: with_code, login: Some("/api/rest/oauth/token") };
const PREVISTO_KEY: Door = Door { tenant: PREVISTO, prepare: |_| (), login: None };
const SAM_JSON: Door = Door { tenant: SAM, prepare: |_| (), login: Some("/rest/user/login") };
const SAM_FORM: Door = Door {
    tenant: SAM,
    prepare: |world| {
        world.settings.crm[0].nextinteract_sam.as_mut().expect("it is a SAM").login = LoginForm::Form;
    },
    login: Some("/rest/user/login"),
};
const SAM_FEDERATED: Door = Door {
    tenant: SAM,
    prepare: |world| {
        world.settings.crm[0].nextinteract_sam.as_mut().expect("it is a SAM").login = LoginForm::Federated;
    },
    login: Some("/rest/user/login"),
};
const CRM_COM_USER: Door =
    Door { tenant: CRM_COM, prepare: |_| (), login: Some("/crmapi/rest/v2/authentication/token") };
const CRM_COM_KEY: Door = Door {
    tenant: CRM_COM,
    prepare: |world| {
        world.settings.crm[0].crm_com.as_mut().expect("it is a CRM.COM").login = CrmComLogin::WebApiKey;
    },
    login: Some("/crmapi/rest/v2/authentication/web_api_key/token"),
};
const BILLING_USER: Door =
    Door { tenant: BILLING, prepare: |_| (), login: Some("/AuthorizationServer/api/v6/Access/Login") };
const BILLING_CLIENT: Door = Door {
    tenant: BILLING,
    prepare: |world| {
        world.settings.crm[0].logisense.as_mut().expect("it is a LogiSense").login = LoginAs::Client;
    },
    login: Some("/AuthorizationServer/api/v6/Access/Login"),
};

/// Has the workers show access tokens to a Priava. The secret that the world can replace is the client's.
pub(crate) fn with_oauth(world: &mut World) {
    let priava = world.settings.crm[0].priava.as_mut().expect("it is a Priava");
    priava.auth = PriavaAuth::Oauth2;
    priava.client_id = "sandbox-client".to_owned();
    priava.redirect_uri = "https://localhost/granted".to_owned();
    priava.tenant_region = "EU".to_owned();
    priava.client_secret_file = priava.token_file.clone();
    let refresh_token = priava.token_file.as_ref().expect("it has one").with_file_name("refresh");
    std::fs::write(&refresh_token, "sandbox-refresh").expect("a file is written");
    priava.refresh_token_file = Some(refresh_token);
}

/// As [`with_oauth`], before anybody has exchanged the code of the first grant.
fn with_code(world: &mut World) {
    with_oauth(world);
    let priava = world.settings.crm[0].priava.as_mut().expect("it is a Priava");
    let refresh_token = priava.refresh_token_file.as_ref().expect("it has one");
    std::fs::remove_file(refresh_token).expect("there is one");
    let code = refresh_token.with_file_name("code");
    std::fs::write(&code, "sandbox-code\n").expect("a file is written");
    priava.authorization_code_file = Some(code);
}

fn file_of(world: &World, file: fn(&contact_replicator::config::PriavaSettings) -> &Option<PathBuf>) -> PathBuf {
    let priava = world.settings.crm[0].priava.as_ref().expect("it is a Priava");
    file(priava).clone().expect("it is configured")
}

/// Every test of a way in, for each of them.
macro_rules! ways_in {
    ($($name:ident: $door:ident;)*) => {
        $(
            mod $name {
                use super::*;

                #[test]
                fn a_wrong_credential_pauses_the_crm_until_it_is_another() {
                    play(wrong(&$door));
                }

                #[test]
                fn a_credential_without_the_right_pauses_the_crm_until_it_is_another() {
                    play(without_the_right(&$door));
                }
            }
        )*
    };
}

ways_in! {
    priava_token: PRIAVA_TOKEN;
    priava_oauth: PRIAVA_OAUTH;
    priava_oauth_by_code: PRIAVA_CODE;
    previsto_key: PREVISTO_KEY;
    sam_login_by_json: SAM_JSON;
    sam_login_by_form: SAM_FORM;
    sam_login_of_a_federated_user: SAM_FEDERATED;
    crm_com_user: CRM_COM_USER;
    crm_com_web_api_key: CRM_COM_KEY;
    logisense_user: BILLING_USER;
    logisense_client: BILLING_CLIENT;
}

impl Door {
    fn crm(&self) -> &'static str {
        self.tenant[0].name
    }

    async fn world(&self, setup: Setup) -> World {
        let mut world = World::of(Setup { crms: self.tenant, ..setup }).await;
        (self.prepare)(&mut world);
        world
    }

    fn logins(&self, world: &World) -> usize {
        let is_login = |path: &str| self.login == path.split('?').next();
        world.sandbox.requests().iter().filter(|request| is_login(&request.path)).count()
    }

    /// Calls that were about contacts.
    fn calls(&self, world: &World) -> usize {
        world.sandbox.requests().len() - self.logins(world)
    }

    async fn say(&self, scene: &Scene, sequence: u64) {
        let changes = (0..CONTACTS).map(|number| change(&format!("s{number}"), sequence, &format!("N{sequence}")));
        scene.world.publish(changes.collect()).await;
    }

    /// It is paused for `why`, wherever an operator looks.
    async fn is_told(&self, scene: &Scene, why: Paused) {
        let crm = self.crm();
        let (reason, page) = match why {
            Paused::Credentials => ("credentials", "THE CRM IS PAUSED: it refuses the credential; correct it"),
            Paused::Connection => ("connection", "THE CRM IS PAUSED: base URL, path or rights are wrong"),
            Paused::Failing => ("failing", "THE CRM IS PAUSED: contact after contact fails"),
            Paused::Operator => unreachable!("no fault of a CRM is an operator\'s word"),
        };
        assert_eq!(scene.world.metric(0, &format!("crm_paused{{crm=\"{crm}\"}}")), 1.0);
        assert_eq!(scene.world.metric(0, &format!("crm_pause_reason{{crm=\"{crm}\",reason=\"{reason}\"}}")), 1.0);
        let answer = scene.world.desk(0).explain(&Asked::About("/shop/s0".to_owned())).await.expect("it is known");
        assert_eq!(answer.crms[0].paused, Some(why));
        let told = words::told(&answer);
        assert!(told.contains(page), "{told}");
    }

    async fn until_paused(&self, scene: &Scene, paused: bool) {
        let series = format!("crm_paused{{crm=\"{}\"}}", self.crm());
        let value = f64::from(u8::from(paused));
        scene.until("the pause, or its end", move |world| world.metric(0, &series) == value).await;
    }

    /// Waits until all has ended, and holds the promises against it as far as the books of this CRM can be read for that: a
    /// contact of CRM.COM and of LogiSense takes several calls, of which each tells a part.
    async fn settled(&self, scene: &mut Scene) -> Evidence {
        match self.tenant[0].kind {
            CrmKind::Priava | CrmKind::Previsto | CrmKind::NextinteractSam => scene.settled_as_promised(0).await,
            CrmKind::CrmCom | CrmKind::Logisense => scene.settled().await,
        }
    }

    /// Events of this round, each with the end that it had.
    fn ends<'a>(&self, evidence: &'a Evidence, sequence: u64) -> Vec<&'a Outcome> {
        let of_round = |outcome: &&Outcome| {
            let id = outcome.event.as_ref().and_then(|event| event.id.as_deref());
            &*outcome.crm == self.crm() && id.is_some_and(|id| id.ends_with(&format!("-{sequence}")))
        };
        evidence.outcomes.iter().filter(of_round).collect()
    }

    /// All events of this round came through, and no try of any was used up.
    fn all_at_once(&self, evidence: &Evidence, sequence: u64) {
        let ends = self.ends(evidence, sequence);
        assert_eq!(ends.len() as u64, CONTACTS);
        for end in ends {
            assert_eq!((end.outcome, end.attempts), (OutcomeKind::Delivered, 1), "{end:?}");
        }
    }
}

/// The one line of the log that tells of a pause.
fn told_once(lines: &Lines) -> String {
    let lines: Vec<_> = lines.take().into_iter().filter(|line| line.contains("the CRM is paused")).collect();
    let [line] = lines.as_slice() else { panic!("one line tells of it, not {lines:#?}") };
    line.clone()
}

async fn wrong(door: &Door) {
    let (lines, _listening) = Lines::begin();
    let world = door.world(Setup::default()).await;
    world.sandbox.set_tokens([RIGHT.to_owned()]);
    let mut scene = Scene::begin(world).await;
    scene.ready(0).await;
    door.say(&scene, 1).await;
    door.until_paused(&scene, true).await;
    sleep(Duration::from_secs(600)).await;
    door.is_told(&scene, Paused::Credentials).await;
    let line = told_once(&lines);
    assert!(line.contains("it refuses the credential; replace it where the configuration says"), "{line}");
    assert!(line.contains("ERROR") && line.contains("status="), "{line}");
    if door.login.is_some() {
        assert_eq!(door.logins(&scene.world), 1, "a wrong secret is sent once, so nobody is locked out");
        assert_eq!(door.calls(&scene.world), 0);
    } else {
        // What was under way, and one probe every few seconds.
        assert!(door.calls(&scene.world) <= 200, "{} calls", door.calls(&scene.world));
    }
    let evidence = scene.evidence_so_far().await;
    assert!(door.ends(&evidence, 1).is_empty(), "nothing is given up");
    assert!(scene.world.sandbox.contacts().is_empty());

    scene.world.replace_token(RIGHT);
    door.until_paused(&scene, false).await;
    let evidence = door.settled(&mut scene).await;
    door.all_at_once(&evidence, 1);
    assert_eq!(scene.world.sandbox.contacts().len() as u64, CONTACTS);
    assert_eq!(door.logins(&scene.world), if door.login.is_some() { 2 } else { 0 });
    assert!(lines.take().iter().any(|line| line.contains("the CRM takes requests again")));
}

/// Whoever is let in and may not do this: SAM says so with a 401, CRM.COM with a 200, all others with a 403.
fn forbidden(door: &Door) -> Fault {
    let (status, body) = match door.tenant[0].kind {
        CrmKind::NextinteractSam => (401, r#"{"errorName":"WSInsufficientPermissionsException","errorCode":1003.0}"#),
        CrmKind::CrmCom => (200, r#"{"status":{"code":"ACCESS_DENIED","message":"","description":""},"data":null}"#),
        CrmKind::Priava | CrmKind::Previsto | CrmKind::Logisense => (403, ""),
    };
    Instead::Status { status, headers: Default::default(), body: body.to_owned(), effect: false }.into()
}

async fn without_the_right(door: &Door) {
    let (lines, _listening) = Lines::begin();
    let mut scene = Scene::begin(door.world(Setup::default()).await).await;
    scene.ready(0).await;
    let window = |action: Action| Window {
        from: Duration::ZERO,
        lasts: Duration::from_secs(100_000),
        only: Only::action(action),
        fault: forbidden(door),
    };
    let windows = [Action::Create, Action::Upsert].map(window).into();
    scene.world.set_faults(FaultPlan { windows, ..FaultPlan::default() });
    door.say(&scene, 1).await;
    door.until_paused(&scene, true).await;
    sleep(Duration::from_secs(120)).await;
    door.is_told(&scene, Paused::Connection).await;
    let line = told_once(&lines);
    assert!(line.contains("base URL, path or rights are wrong; run check, or ask who administers it"), "{line}");
    assert!(door.logins(&scene.world) <= 1, "no login gives a right");
    let evidence = scene.evidence_so_far().await;
    assert!(door.ends(&evidence, 1).is_empty(), "nothing is given up");

    // Another user, who has the right: nothing but the file says so.
    let logins = door.logins(&scene.world);
    scene.world.sandbox.set_tokens([RIGHT.to_owned()]);
    scene.world.replace_token(RIGHT);
    if door.login.is_some() {
        scene.until("a login of the other user", |world| door.logins(world) > logins).await;
    } else {
        sleep(Duration::from_secs(20)).await;
        // From here on only what was read meanwhile can open.
        scene.world.take_token_away();
    }
    scene.world.set_faults(FaultPlan::default());
    door.until_paused(&scene, false).await;
    scene.world.replace_token(RIGHT);
    let evidence = door.settled(&mut scene).await;
    door.all_at_once(&evidence, 1);
    assert_eq!(scene.world.sandbox.contacts().len() as u64, CONTACTS);
}

/// How long tokens live in these tests.
const LIFE: Duration = Duration::from_secs(60);

/// CRMs whose tokens end after a minute.
fn short_lived() -> Setup {
    let door = SamDoorSettings { token_life: LIFE, ..SamDoorSettings::default() };
    // Each worker has a grant of its own: here one that is good for all of them.
    let oauth = OAuthSettings { life: LIFE, rotates: false, ..OAuthSettings::default() };
    Setup {
        workers: 2,
        sam: NextinteractSamSettings { door, ..NextinteractSamSettings::default() },
        priava: PriavaSettings { oauth, ..PriavaSettings::default() },
        crm_com: contact_replicator::sandbox::CrmComSettings { token_life: LIFE, ..Default::default() },
        logisense: LogisenseSettings { token_life: LIFE, ..LogisenseSettings::default() },
        ..Setup::default()
    }
}

/// Tokens end by themselves between two rounds, and are taken back in the middle of a third.
async fn ended(door: &Door) {
    let mut scene = Scene::begin(door.world(short_lived()).await).await;
    scene.ready(0).await;
    scene.ready(1).await;
    door.say(&scene, 1).await;
    let evidence = scene.settled().await;
    door.all_at_once(&evidence, 1);
    assert_eq!(door.logins(&scene.world), 2, "one of each worker");
    sleep(LIFE * 2).await;
    door.say(&scene, 2).await;
    let evidence = scene.settled().await;
    door.all_at_once(&evidence, 2);
    assert_eq!(door.logins(&scene.world), 4, "one more of each worker");

    sleep(LIFE * 2).await;
    let expire = |action| Scripted { only: Only::action(action), ..Scripted::at(15, Instead::ExpireToken) };
    let script = [Action::Update, Action::Upsert].map(expire).into();
    scene.world.set_faults(FaultPlan { script, ..FaultPlan::default() });
    door.say(&scene, 3).await;
    let evidence = door.settled(&mut scene).await;
    door.all_at_once(&evidence, 3);
    let struck = scene.world.sandbox.requests().iter().filter(|call| call.faulty).count();
    assert_eq!(struck, 1);
    assert_eq!(door.logins(&scene.world), 7, "one more of each worker, and one of whom a token was taken from");
}

#[test]
fn an_access_token_of_priava_that_ends_costs_each_worker_one_refresh_and_no_delivery() {
    play(ended(&PRIAVA_OAUTH));
}

#[test]
fn a_token_of_crm_com_that_ends_costs_each_worker_one_login_and_no_delivery() {
    play(ended(&CRM_COM_USER));
    play(ended(&CRM_COM_KEY));
}

#[test]
fn a_token_of_logisense_that_ends_costs_each_worker_one_refresh_and_no_delivery() {
    play(ended(&BILLING_USER));
}

/// Of SAM, whose calls are few, a token that is taken back is in `shared_calls`.
#[test]
fn a_token_of_sam_that_ends_costs_each_worker_one_login_and_no_delivery() {
    play(async {
        let door = &SAM_JSON;
        let mut scene = Scene::begin(door.world(short_lived()).await).await;
        scene.ready(0).await;
        scene.ready(1).await;
        for round in 1..=3 {
            door.say(&scene, round).await;
            let evidence = scene.settled().await;
            door.all_at_once(&evidence, round);
            assert_eq!(door.logins(&scene.world) as u64, 2 * round);
            sleep(LIFE * 2).await;
        }
    });
}

/// A refresh token that rotates belongs to one worker, and outlives it in its file.
#[test]
fn a_worker_that_is_started_again_goes_on_with_the_refresh_token_that_it_stored() {
    play(async {
        let door = &PRIAVA_OAUTH;
        let mut scene = Scene::begin(door.world(Setup::default()).await).await;
        door.say(&scene, 1).await;
        scene.settled().await;
        scene.world.stop(0).await;
        scene.world.start(0);
        door.say(&scene, 2).await;
        let evidence = door.settled(&mut scene).await;
        door.all_at_once(&evidence, 2);
        assert_eq!(door.logins(&scene.world), 2);
        let refused = scene.world.sandbox.requests().iter().filter(|call| call.status == Some(400)).count();
        assert_eq!(refused, 0, "the one that was used up is not shown again");
    });
}

/// Nobody can refresh with a dead grant: it pauses as a wrong secret does, and a file with another grant ends that.
#[test]
fn a_dead_refresh_token_pauses_priava_until_its_file_has_another() {
    play(async {
        let (lines, _listening) = Lines::begin();
        let door = &PRIAVA_OAUTH;
        let world = door.world(Setup::default()).await;
        let file = world.settings.crm[0].priava.as_ref().and_then(|priava| priava.refresh_token_file.clone());
        let file = file.expect("it has one");
        std::fs::write(&file, "dead").expect("a file is written");
        let mut scene = Scene::begin(world).await;
        scene.ready(0).await;
        door.say(&scene, 1).await;
        door.until_paused(&scene, true).await;
        sleep(Duration::from_secs(600)).await;
        door.is_told(&scene, Paused::Credentials).await;
        let line = told_once(&lines);
        assert!(line.contains("code=\"invalid_grant\"") && line.contains("status=400"), "{line}");
        assert_eq!((door.logins(&scene.world), door.calls(&scene.world)), (1, 0));
        std::fs::write(&file, "sandbox-refresh").expect("a file is written");
        let evidence = door.settled(&mut scene).await;
        door.all_at_once(&evidence, 1);
        assert_eq!(door.logins(&scene.world), 2);
    });
}

/// A code is good for one exchange; what it brought outlives the worker, the access token, and the code itself.
#[test]
fn a_code_is_exchanged_once_and_its_refresh_token_outlives_the_worker() {
    play(async {
        let door = &PRIAVA_CODE;
        let oauth = OAuthSettings { life: LIFE, ..OAuthSettings::default() };
        let setup = Setup { priava: PriavaSettings { oauth, ..PriavaSettings::default() }, ..Setup::default() };
        let mut scene = Scene::begin(door.world(setup).await).await;
        let grants = |world: &World| {
            let requests = world.sandbox.requests();
            let logins = requests.iter().filter(|call| Some(&*call.path) == door.login);
            let bodies = logins.map(|call| {
                assert_eq!(call.status, Some(200));
                String::from_utf8(call.body.clone().expect("bodies are logged").to_vec()).expect("a form")
            });
            bodies.map(|body| body.split('&').next().map(str::to_owned).expect("a field")).collect::<Vec<_>>()
        };
        let (by_code, by_refresh) = ("grant_type=authorization_code", "grant_type=refresh_token");
        door.say(&scene, 1).await;
        let evidence = scene.settled().await;
        door.all_at_once(&evidence, 1);
        assert_eq!(grants(&scene.world), [by_code]);
        let file = file_of(&scene.world, |priava| &priava.refresh_token_file);
        let kept = std::fs::read_to_string(&file).expect("it is stored");
        assert!(kept.starts_with("refresh-1\n") && !kept.contains("sandbox-code"), "{kept}");

        // The access token ends.
        sleep(LIFE * 2).await;
        door.say(&scene, 2).await;
        let evidence = scene.settled().await;
        door.all_at_once(&evidence, 2);
        assert_eq!(grants(&scene.world), [by_code, by_refresh]);

        // The worker ends, with the code still there, and then without.
        for (round, is_there) in [(3, true), (4, false)] {
            scene.world.stop(0).await;
            if !is_there {
                std::fs::remove_file(file_of(&scene.world, |priava| &priava.authorization_code_file))
                    .expect("it is there");
            }
            scene.world.start(0);
            door.say(&scene, round).await;
            let evidence = scene.settled().await;
            door.all_at_once(&evidence, round);
        }
        assert_eq!(grants(&scene.world), [by_code, by_refresh, by_refresh, by_refresh]);
        door.settled(&mut scene).await;
    });
}

/// One that somebody used before us, or that is too old.
#[test]
fn a_dead_code_pauses_priava_with_a_remedy_until_there_is_another() {
    play(async {
        let (lines, _listening) = Lines::begin();
        let door = &PRIAVA_CODE;
        let world = door.world(Setup::default()).await;
        let code = file_of(&world, |priava| &priava.authorization_code_file);
        std::fs::write(&code, "used-before").expect("a file is written");
        let mut scene = Scene::begin(world).await;
        scene.ready(0).await;
        door.say(&scene, 1).await;
        door.until_paused(&scene, true).await;
        sleep(Duration::from_secs(600)).await;
        door.is_told(&scene, Paused::Credentials).await;
        let remedies: Vec<_> =
            lines.take().into_iter().filter(|line| line.contains("make another first grant")).collect();
        let [remedy] = remedies.as_slice() else { panic!("one line tells of it, not {remedies:#?}") };
        for word in ["ERROR", "crm=priava", "invalid_grant", "authorization_code_file", "refresh_token_file"] {
            assert!(remedy.contains(word) && !remedy.contains("used-before"), "{remedy}");
        }
        assert_eq!((door.logins(&scene.world), door.calls(&scene.world)), (1, 0), "it is shown once");
        std::fs::write(&code, "sandbox-code").expect("a file is written");
        let evidence = door.settled(&mut scene).await;
        door.all_at_once(&evidence, 1);
        assert_eq!(door.logins(&scene.world), 2);
    });
}

/// A code is not used up while what it brings could not be kept.
#[test]
fn a_code_is_not_exchanged_while_its_refresh_token_could_not_be_stored() {
    play(async {
        let door = &PRIAVA_CODE;
        let mut world = door.world(Setup::default()).await;
        let folder = file_of(&world, |priava| &priava.refresh_token_file).with_file_name("not-there-yet");
        world.settings.crm[0].priava.as_mut().expect("it is a Priava").refresh_token_file =
            Some(folder.join("refresh"));
        let mut scene = Scene::begin(world).await;
        door.say(&scene, 1).await;
        door.until_paused(&scene, true).await;
        sleep(Duration::from_secs(60)).await;
        assert_eq!(door.logins(&scene.world), 0);
        std::fs::create_dir(&folder).expect("a folder is made");
        let evidence = door.settled(&mut scene).await;
        door.all_at_once(&evidence, 1);
        assert_eq!(door.logins(&scene.world), 1);
    });
}

/// Each worker has a token of its own, and only where that is wanted is it given back.
#[test]
fn a_worker_that_stops_gives_its_token_of_crm_com_back_where_that_is_wanted() {
    const RELEASE: &str = "/crmapi/rest/v2/authentication/token/release";
    for wanted in [true, false] {
        for door in [&CRM_COM_USER, &CRM_COM_KEY] {
            play(async {
                let mut world = door.world(Setup { workers: 2, ..Setup::default() }).await;
                world.settings.crm[0].crm_com.as_mut().expect("it is a CRM.COM").release_token = wanted;
                let mut scene = Scene::begin(world).await;
                scene.ready(0).await;
                scene.ready(1).await;
                door.say(&scene, 1).await;
                scene.settled().await;
                scene.world.stop(0).await;
                let released = |world: &World| {
                    let requests = world.sandbox.requests();
                    let statuses = requests.iter().filter(|call| call.path == RELEASE).map(|call| call.status);
                    statuses.collect::<Vec<_>>()
                };
                assert_eq!(released(&scene.world), if wanted { vec![Some(200)] } else { Vec::new() });
                // The other goes on with its own.
                door.say(&scene, 2).await;
                let evidence = door.settled(&mut scene).await;
                door.all_at_once(&evidence, 2);
                assert_eq!(door.logins(&scene.world), 2);
            });
        }
    }
}
