//! What is told of the settings of a CRM that cannot be meant, kind by kind.

use super::{faulty, fine, limit, parse, with};
use crate::config::Settings;

#[test]
fn what_does_not_fit_the_crm_or_the_contact_is_told_at_its_place_and_with_all_else() {
    let kind = "[{ at = \"/kind\", is = \"company\" }]";
    faulty(&[("crm[0].where", kind)], "crm[0].where[0].is", "person, organization");
    faulty(&[("crm[0].fields.nickname", "\"/gender\"")], "crm[0].fields.nickname", "no such field");
    faulty(&[("crm[0].fields.title", "5")], "crm[0].fields.title", "expected a pointer");
    faulty(&[("crm[0].fields.title", "{ from = \"/sex\" }")], "crm[0].fields.title.from", "no contact has");
    faulty(&[("crm[0].on_leave", "\"blank\"")], "crm[0].on_leave", "no such choice");
    let several =
        [("crm[0].fields.nickname", "\"/gender\""), ("crm[0].delivery.in_flight_max", "0"), ("crm[0].where", kind)];
    let faults = parse(&with(&several)).expect_err("three are wrong");
    assert_eq!(faults.len(), 3, "{faults:?}");
    let settings = fine(&[
        ("crm[0].fields.title", "\"/gender\""),
        ("crm[0].where", "[{ at = \"/emails/value\", present = true }]"),
    ]);
    assert_eq!((settings.crm[0].fields.len(), settings.crm[0].filter.len()), (1, 1));
}

#[test]
fn a_previsto_that_cannot_be_meant_is_told() {
    for (changes, key, says) in [
        (&[("search_by", "[]")][..], "search_by", "one at least"),
        (&[("search_by", "[\"email\", \"email\"]")], "search_by", "once"),
        (&[("search_by", "[\"name\"]")], "search_by[0]", "`number`"),
        (&[("page_size", "0")], "page_size", "1 to 1000"),
        (&[("page_size", "1001")], "page_size", "1 to 1000"),
        (&[("page_size", "\"x\"")], "page_size", "page_size = \"x\": expected a whole number from 0 on"),
        (&[("search_pages_max", "1")], "search_pages_max", "2 to 1000"),
        (&[("search_pages_max", "1001")], "search_pages_max", "2 to 1000"),
        (&[("attribute_prefix", "\"\"")], "attribute_prefix", "end with _"),
        (&[("attribute_prefix", "\"attr\"")], "attribute_prefix", "end with _"),
        (&[("attribute_prefix", "\"a[_\"")], "attribute_prefix", "end with _"),
        (&[("attribute_prefix", "\"a23456789012345678901234567890123_\"")], "attribute_prefix", "up to 32"),
        (&[("blank_name", "\" \"")], "blank_name", "has a name"),
        (&[("blank_name", "\"a\\nb\"")], "blank_name", "visible"),
        (&[("never_cleared", "[\"name\"]")], "never_cleared", "\"name\""),
        (&[("never_cleared", "[\"meta.shoe\"]")], "never_cleared", "\"meta.shoe\""),
        (&[("clear_with", "\"nothing\"")], "clear_with", "`omit`"),
        (&[("api_key_env", "\"MISSING_KEY\"")], "api_key_env", "MISSING_KEY is not set"),
        (&[("api_key_file", "\"/none\"")], "api_key_file", "/none"),
        (&[("status_classes.200", "\"transient\"")], "status_classes.200", "300 to 599"),
    ] {
        let paths: Vec<_> = changes.iter().map(|(path, value)| (format!("crm[0].previsto.{path}"), *value)).collect();
        let mut changes = vec![("crm[0].kind", "\"previsto\"")];
        changes.extend(paths.iter().map(|(path, value)| (path.as_str(), *value)));
        faulty(&changes, &format!("crm[0].previsto.{key}"), says);
    }
    for (key, value) in [
        ("search_by", "[\"phone\"]"),
        ("page_size", "1"),
        ("page_size", "1000"),
        ("search_pages_max", "2"),
        ("search_pages_max", "1000"),
        ("attribute_prefix", "\"_\""),
        ("attribute_prefix", "\"a234567890123456789012345678901_\""),
        ("never_cleared", "[\"note\", \"meta.gender\", \"meta.attr_shoe\"]"),
        ("status_classes.404", "\"gone\""),
    ] {
        fine(&[("crm[0].kind", "\"previsto\""), (&format!("crm[0].previsto.{key}"), value)]);
    }
    faulty(&[("crm[0].previsto.page_size", "7")], "crm[0].previsto", "cannot be read");
}

#[test]
fn a_crm_com_that_cannot_be_meant_is_told() {
    let paths = |changes: &[(&str, &str)]| -> Vec<(String, String)> {
        let paths = changes.iter().map(|(path, value)| (format!("crm[0].crm_com.{path}"), (*value).to_owned()));
        std::iter::once(("crm[0].kind".to_owned(), "\"crm_com\"".to_owned())).chain(paths).collect()
    };
    let codes = |count: u32| {
        let codes: Vec<String> = (0..count).map(|number| format!("\"C{number}\"")).collect();
        format!("[{}]", codes.join(", "))
    };
    let (many, too_many) = (codes(20), codes(21));
    for (changes, key, says) in [
        (&[("login", "\"key\"")][..], "login", "`web_api_key`"),
        (&[("username", "\" \"")], "username", "login by user"),
        (&[("organisation", "\"\"")], "organisation", "login by user"),
        (&[("token_life", "\"59s\""), ("renew_before", "\"0s\"")], "token_life", "1m"),
        (&[("token_life", "\"25h\"")], "token_life", "1day"),
        (&[("renew_before", "\"61m\""), ("token_life", "\"2h\"")], "renew_before", "1h"),
        (&[("renew_before", "\"55m\"")], "renew_before", "less than token_life"),
        (&[("login_interval", "\"61m\"")], "login_interval", "1h"),
        (&[("external_ref_slot", "\"udf_string_17\"")], "external_ref_slot", "udf_string_1 to 16"),
        (&[("external_ref_slot", "\"udf_float_1\"")], "external_ref_slot", "udf_string_1 to 16"),
        (&[("source_slot", "\"udf_string_16\"")], "source_slot", "something else"),
        (&[("user_defined./active", "\"udf_string_16\"")], "user_defined./active", "something else"),
        (&[("user_defined./active", "\"udf_date_9\"")], "user_defined./active", "udf_date_1 to 8"),
        (&[("user_defined./emails", "\"udf_string_1\"")], "user_defined./emails", "one value"),
        (&[("search_by", "[]")], "search_by", "one at least"),
        (&[("search_by", "[\"id_number\", \"id_number\"]")], "search_by", "once"),
        (&[("page_size", "0")], "page_size", "1 to 500"),
        (&[("page_size", "501")], "page_size", "1 to 500"),
        (&[("search_pages_max", "0")], "search_pages_max", "1 to 1000"),
        (&[("search_pages_max", "1001")], "search_pages_max", "1 to 1000"),
        (&[("overflow_types", "[\"CUSTOM6\"]")], "overflow_types", "CUSTOM1 to CUSTOM5"),
        (&[("overflow_types", "[\"CUSTOM1\", \"CUSTOM1\"]")], "overflow_types", "once"),
        (&[("photo_bytes_max", "5242881")], "photo_bytes_max", "0 to 5242880"),
        (&[("relation_types.boss", "\"boss\"")], "relation_types.boss", "EMPLOYER"),
        (&[("relation_party", "\"contact\"")], "relation_party", "contact_information_identifier"),
        (&[("photo_types", "[\"image/webp\"]")], "photo_types", "image/png"),
        (&[("photo_types", "[\"image/png\", \"image/png\"]")], "photo_types", "once"),
        (&[("vat_search", "\"vat\"")], "vat_search", "`registration_number`"),
        (&[("object_updates", "\"all\"")], "object_updates", "`whole`"),
        (&[("no_hits_codes", "[\"OK\"]")], "no_hits_codes", "failure"),
        (&[("no_hits_codes", too_many.as_str())], "no_hits_codes", "20"),
        (&[("unknown_reference_codes", "[\" \"]")], "unknown_reference_codes", "failure"),
        (&[("unknown_reference_codes", too_many.as_str())], "unknown_reference_codes", "20"),
        (&[("address_parts.region", "\"street_name\"")], "address_parts.region", "care_of"),
        (&[("address_parts.region", "\"district\"")], "address_parts.region", "something else"),
        (
            &[("address_parts.region", "\"area\""), ("address_format", "\"international\"")],
            "address_parts.region",
            "international",
        ),
        (&[("phone_country", "\"cy\"")], "phone_country", "capital"),
        (&[("country_by", "[]")], "country_by", "two_character_code"),
        (&[("countries.CYP", "\"Cyprus\"")], "countries.CYP", "capital"),
        (&[("countries.CY", "\"id:\"")], "countries.CY", "capital"),
        (&[("category_by", "\"colour\"")], "category_by", "alternative_code"),
        (&[("never_cleared", "[\"first_name\"]")], "never_cleared", "first_name"),
        (&[("blank_first_name", "\"\"")], "blank_first_name", "visible"),
        (&[("status_classes.200", "\"transient\"")], "status_classes.200", "300 to 599"),
        (&[("code_classes.X", "\"often\"")], "code_classes.X", "`transient`"),
    ] {
        let paths = paths(changes);
        let changes: Vec<_> = paths.iter().map(|(path, value)| (path.as_str(), value.as_str())).collect();
        faulty(&changes, &format!("crm[0].crm_com.{key}"), says);
    }
    for (key, value) in [
        ("token_life", "\"1day\""),
        ("renew_before", "\"0s\""),
        ("login_interval", "\"1h\""),
        ("page_size", "1"),
        ("page_size", "500"),
        ("search_pages_max", "1"),
        ("search_pages_max", "1000"),
        ("source_slot", "\"udf_string_1\""),
        ("relation_party", "\"contact_information_identifier\""),
        ("photo_types", "[]"),
        ("no_hits_codes", "[]"),
        ("no_hits_codes", many.as_str()),
        ("unknown_reference_codes", many.as_str()),
        ("address_parts.region", "\"\""),
        ("address_parts.region", "\"area\""),
        ("overflow_types", "[]"),
        ("photo_bytes_max", "0"),
        ("photo_bytes_max", "5242880"),
        ("relation_types.boss", "\"CUSTOM5\""),
        ("without_street", "[]"),
        ("phone_country", "\"CY\""),
        ("never_cleared", "[\"notes\", \"phone_set.CUSTOM1\", \"udf_date_8\"]"),
        ("code_classes.X", "\"gone\""),
    ] {
        let paths = paths(&[(key, value)]);
        fine(&paths.iter().map(|(path, value)| (path.as_str(), value.as_str())).collect::<Vec<_>>());
    }
}

#[test]
fn a_nextinteract_sam_that_cannot_be_meant_is_told() {
    for (key, value, at, says) in [
        ("login", "\"xml\"", "login", "`json`"),
        ("app_code", "\"ni\"", "app_code", "`NI`"),
        ("platform", "\"a\\nb\"", "platform", "up to 64"),
        ("device_type", "\"Phone\"", "device_type", "Android Phone"),
        ("token_life", "\"59s\"", "token_life", "1m to 1day"),
        ("token_life", "\"25h\"", "token_life", "1m to 1day"),
        ("renew_before", "\"61m\"", "renew_before", "0s to 1h"),
        ("login_interval_min", "\"999ms\"", "login_interval_min", "1s to 1h"),
        ("login_interval_min", "\"61m\"", "login_interval_min", "1s to 1h"),
        ("locked_retry_after", "\"59s\"", "locked_retry_after", "1m to 30days"),
        ("batch_rows_max", "0", "batch_rows_max", "1 to 500"),
        ("batch_rows_max", "501", "batch_rows_max", "1 to 500"),
        ("batch_bytes_max", "1023", "batch_bytes_max", "1024 to 67108864"),
        ("batch_bytes_max", "67108865", "batch_bytes_max", "1024 to 67108864"),
        ("batch_age_max", "\"10001ms\"", "batch_age_max", "0s to 10s"),
        ("unstored_retries_max", "6", "unstored_retries_max", "0 to 5"),
        ("company_service_tries_max", "0", "company_service_tries_max", "1 to 1000"),
        ("company_service_tries_max", "1001", "company_service_tries_max", "1 to 1000"),
        ("organization", "\"company\"", "organization", "`last_name`"),
        ("birth_date", "\"iso\"", "birth_date", "`epoch_ms`"),
        ("modified", "\"now\"", "modified", "`received_at`"),
        ("clear_with", "\"omit\"", "clear_with", "`empty`"),
        ("blank_last_name", "\" \"", "blank_last_name", "has a last name"),
        ("blank_last_name", "\"a\\nb\"", "blank_last_name", "visible"),
        ("error_code_key", "\"\"", "error_code_key", "has a name"),
        ("email_env", "\"MISSING_EMAIL\"", "email_env", "MISSING_EMAIL is not set"),
        ("password_env", "\"MISSING_PASSWORD\"", "password_env", "MISSING_PASSWORD is not set"),
        ("password_file", "\"/none\"", "password_file", "/none"),
        ("status_classes.200", "\"transient\"", "status_classes.200", "300 to 599"),
        ("code_classes.999", "\"transient\"", "code_classes.999", "1000 to 9999"),
        ("code_classes.10000", "\"transient\"", "code_classes.10000", "1000 to 9999"),
    ] {
        let key = format!("crm[0].nextinteract_sam.{key}");
        let changes = [("crm[0].kind", "\"nextinteract_sam\""), (&*key, value)];
        faulty(&changes, &format!("crm[0].nextinteract_sam.{at}"), says);
    }
    for (key, value) in [
        ("token_life", "\"1m\""),
        ("token_life", "\"1day\""),
        ("renew_before", "\"0s\""),
        ("renew_before", "\"1h\""),
        ("login_interval_min", "\"1s\""),
        ("locked_retry_after", "\"1m\""),
        ("batch_rows_max", "1"),
        ("batch_rows_max", "500"),
        ("batch_bytes_max", "1024"),
        ("batch_bytes_max", "67108864"),
        ("batch_age_max", "\"0s\""),
        ("batch_age_max", "\"10s\""),
        ("unstored_retries_max", "0"),
        ("unstored_retries_max", "5"),
        ("company_service_tries_max", "1000"),
        ("code_classes.2020", "\"rejected\""),
        ("status_classes.404", "\"gone\""),
    ] {
        let key = format!("crm[0].nextinteract_sam.{key}");
        fine(&[("crm[0].kind", "\"nextinteract_sam\""), (&*key, value)]);
    }
    let settings = fine(&[("crm[0].kind", "\"nextinteract_sam\"")]);
    let sam = settings.crm[0].nextinteract_sam.as_ref().unwrap();
    assert!(settings.crm[0].delivery.in_flight_max >= 2 * sam.batch_rows_max, "calls could never be full");
}

#[test]
fn oauth_needs_all_that_a_grant_consists_of() {
    let whole = [
        ("crm[0].priava.auth", "\"oauth2\""),
        ("crm[0].priava.token_env", "\"MISSING_TOKEN\""),
        ("crm[0].priava.client_id", "\"hub\""),
        ("crm[0].priava.client_secret_env", "\"CLIENT_SECRET\""),
        ("crm[0].priava.refresh_token_file", "\"/run/secret\""),
        ("crm[0].priava.redirect_uri", "\"https://hub.example.org/\""),
        ("crm[0].priava.tenant_region", "\"EU\""),
    ];
    assert_eq!(fine(&whole).crm[0].priava.as_ref().unwrap().auth, crate::config::PriavaAuth::Oauth2);
    for (place, wrong, key, says) in [
        (2, "\"\"", "crm[0].priava.client_id", "does not work without it"),
        (3, "\"MISSING_SECRET\"", "crm[0].priava.client_secret_env", "MISSING_SECRET is not set"),
        (4, "\"/none\"", "crm[0].priava.refresh_token_file", "cannot be read"),
        (5, "\"\"", "crm[0].priava.redirect_uri", "does not work without it"),
        (6, "\"\"", "crm[0].priava.tenant_region", "does not work without it"),
    ] {
        let mut changes = whole;
        changes[place].1 = wrong;
        faulty(&changes, key, says);
    }
    let changes: Vec<_> = whole.into_iter().filter(|(key, _)| !key.ends_with("refresh_token_file")).collect();
    faulty(&changes, "crm[0].priava.refresh_token_file", "name a file that this program may write");
    faulty(
        &[&whole[..], &[("crm[0].priava.oauth_path", "\"oauth\"")]].concat(),
        "crm[0].priava.oauth_path",
        "begin with /",
    );
}

#[test]
fn a_code_needs_a_place_for_what_it_brings_and_may_go_once_it_brought_it() {
    let oauth = [
        ("crm[0].priava.auth", "\"oauth2\""),
        ("crm[0].priava.client_id", "\"hub\""),
        ("crm[0].priava.client_secret_env", "\"CLIENT_SECRET\""),
        ("crm[0].priava.redirect_uri", "\"https://hub.example.org/\""),
        ("crm[0].priava.tenant_region", "\"EU\""),
    ];
    let with = |more: &[(&'static str, &'static str)]| [&oauth[..], more].concat();
    let (kept, not_yet) = ("\"/run/secret\"", "\"/run/not-yet\"");
    let [file, variable, code_file] =
        ["refresh_token_file", "authorization_code_env", "authorization_code_file"].map(|key| match key {
            "refresh_token_file" => "crm[0].priava.refresh_token_file",
            "authorization_code_env" => "crm[0].priava.authorization_code_env",
            _ => "crm[0].priava.authorization_code_file",
        });
    fine(&with(&[(file, not_yet), (variable, "\"CODE\"")]));
    fine(&with(&[(file, not_yet), (code_file, "\"/run/secret\"")]));
    fine(&with(&[(file, kept), (code_file, "\"/run/gone\"")]));
    fine(&with(&[(file, kept), (variable, "\"MISSING_CODE\"")]));
    faulty(&with(&[(variable, "\"CODE\"")]), file, "name a file that this program may write");
    faulty(&with(&[(file, not_yet), (variable, "\"MISSING_CODE\"")]), variable, "MISSING_CODE is not set");
    faulty(&with(&[(file, not_yet), (code_file, "\"/run/gone\"")]), code_file, "cannot be read");
    for place in [kept, not_yet] {
        let both = with(&[(file, place), (variable, "\"CODE\""), (code_file, "\"/run/secret\"")]);
        faulty(&both, variable, "keep one of the two");
    }
    faulty(&with(&[(file, not_yet)]), file, "cannot be read");
}

#[test]
fn an_event_is_not_given_up_before_its_first_request_could_end() {
    let brief: &[(&str, &str)] =
        &[("crm[0].delivery.request_deadline", "\"100ms\""), ("crm[0].delivery.connect_timeout", "\"1ms\"")];
    let edges = ["\"999ms\"", "\"1s\"", "\"36500d\"", "\"36501d\""];
    limit(brief, "crm[0].delivery.max_age", edges.map(ToOwned::to_owned));
    fine(&[("crm[0].delivery.max_age", "\"30001ms\"")]);
    assert_eq!(Settings::reference().crm[0].delivery.max_age, None);
}

#[test]
fn each_policy_has_its_words() {
    for (key, words) in [
        ("on_delete", &["delete", "deactivate", "keep"][..]),
        ("on_erase", &["delete", "blank", "keep"]),
        ("on_gone", &["recreate", "drop"]),
        ("adopt", &["by_key", "never"]),
    ] {
        for word in words {
            fine(&[(&format!("crm[0].{key}"), &format!("\"{word}\""))]);
        }
    }
}

#[test]
fn a_logisense_that_cannot_be_meant_is_told() {
    for (path, value, says) in [
        ("login", "\"nobody\"", "`client`"),
        ("username", "\"\"", "login = "),
        ("client_id", "\" \"", "id of the client"),
        ("contact_type", "\"\"", "ContactType"),
        ("blank_name", "\"a\\nb\"", "visible"),
        ("code_member", "\"\"", "member"),
        ("login_path", "\"login\"", "begin with /"),
        ("resource_path", "\"/api/\"", "end without"),
        ("page_size", "1", "2 to 1000"),
        ("page_size", "1001", "2 to 1000"),
        ("walk_pages_max", "0", "1 to 10000"),
        ("walk_pages_max", "10001", "1 to 10000"),
        ("first_page", "2", "0 to 1"),
        ("page_number_argument", "\"\"", "letters"),
        ("page_size_argument", "\"a&b\"", "letters"),
        ("exclude_total_argument", "\"a b\"", "letters"),
        ("beyond_walk", "\"create\"", "`stop`"),
        ("patch.details", "\"a b\"", "letters"),
        ("patch.contact_points", "\"\"", "letters"),
        ("patch.address", "\"contactPoints\"", "already"),
        ("patch.contact_points_as", "\"single\"", "items or list"),
        ("patch.address_as", "\"map\"", "`single`"),
        ("candidates_max", "0", "1 to 1000"),
        ("candidates_max", "1001", "1 to 1000"),
        ("points_max", "0", "1 to 20"),
        ("points_max", "21", "1 to 20"),
        ("renew_before", "\"999ms\"", "1s to 1day"),
        ("renew_before", "\"25h\"", "1s to 1day"),
        ("login_interval_min", "\"25h\"", "0s to 1day"),
        ("create_marker", "\"name\"", "`title`"),
        ("unknown_place", "\"keep\"", "`lose`"),
        ("never_cleared", "[\"lastName\"]", "\"lastName\""),
        ("never_cleared", "[\"contactPoint.email.6\"]", "contactPoint.email.6"),
        ("countries.gb", "\"UK\"", "two capital letters"),
        ("secret_env", "\"MISSING_KEY\"", "MISSING_KEY is not set"),
        ("status_classes.200", "\"transient\"", "300 to 599"),
    ] {
        let key = format!("crm[0].logisense.{path}");
        faulty(&[("crm[0].kind", "\"logisense\""), (&key, value)], &key, says);
    }
    for (path, value) in [
        ("page_size", "2"),
        ("page_size", "1000"),
        ("walk_pages_max", "1"),
        ("walk_pages_max", "10000"),
        ("first_page", "0"),
        ("page_size_argument", "\"\""),
        ("exclude_total_argument", "\"\""),
        ("patch.details", "\"\""),
        ("patch.address_as", "\"single\""),
        ("candidates_max", "1"),
        ("candidates_max", "1000"),
        ("points_max", "1"),
        ("points_max", "20"),
        ("renew_before", "\"1s\""),
        ("renew_before", "\"24h\""),
        ("login_interval_min", "\"0s\""),
        ("login_interval_min", "\"24h\""),
        ("never_cleared", "[\"title\", \"address.zipCode\", \"contactPoint.email.5\"]"),
        ("countries.GB", "\"UK\""),
        ("is_used_for_tax", "false"),
    ] {
        fine(&[("crm[0].kind", "\"logisense\""), (&format!("crm[0].logisense.{path}"), value)]);
    }
}
