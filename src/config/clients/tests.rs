//! Tests of section `clients`.

use serde_json::{Value, json};

use super::*;

fn client(users: Value) -> Value {
    json!({"users": users, "weight": 3, "concurrency": 2, "queue_length": 5, "profiles": ["judge"]})
}

fn parse(clients: &Value) -> Result<Config, String> {
    Config::parse(&json!({ "clients": clients }).to_string()).map_err(|error| error.to_string())
}

/// A host whose users are alice, 1000, and bob, 1001.
fn find(name: &str) -> std::io::Result<Option<u32>> {
    match name {
        "alice" => Ok(Some(1000)),
        "bob" => Ok(Some(1001)),
        "broken" => Err(std::io::Error::other("no database")),
        _ => Ok(None),
    }
}

fn resolved(clients: &Value) -> Result<Config, String> {
    let mut config = parse(clients)?;
    config.clients.resolve(&find).map_err(|error| error.to_string())?;
    Ok(config)
}

#[test]
fn a_client_is_told_by_the_ids_of_its_users() {
    let config = resolved(&json!({"judges": client(json!(["alice", 7, "8"]))})).unwrap();
    for uid in [1000, 7, 8] {
        let quota = config.quota(uid);
        assert_eq!((&*quota.client, quota.weight, quota.concurrency, quota.queue_length), ("judges", 3, 2, 5));
        assert!(quota.allows("judge") && !quota.allows("default"));
    }
}

#[test]
fn a_user_in_no_client_is_one() {
    let config = resolved(&json!({"judges": client(json!(["alice"]))})).unwrap();
    let quota = config.quota(1001);
    assert_eq!((&*quota.client, quota.weight, quota.concurrency), ("1001", 1, 0));
    assert_eq!(quota.queue_length, config.service.queue_length_per_client);
    assert!(quota.allows("default") && quota.allows("judge"));
}

#[test]
fn sessions_of_a_client_are_its_own_number_or_that_of_all() {
    let mut own = client(json!(["bob"]));
    own["sessions"] = json!(0);
    let clients = json!({"judges": client(json!(["alice"])), "closed": own});
    let text = json!({"clients": clients, "sessions": {"sessions_per_client": 7}}).to_string();
    let mut config = Config::parse(&text).unwrap();
    config.clients.resolve(&find).unwrap();
    for (uid, most, key) in [
        (1000, 7, "sessions.sessions_per_client"),
        (1001, 0, "clients.closed.sessions"),
        (1002, 7, "sessions.sessions_per_client"),
    ] {
        let quota = config.quota(uid);
        assert_eq!((quota.sessions, quota.sessions_key.as_str()), (most, key), "{uid}");
    }
}

#[test]
fn a_quota_is_found_by_the_name_of_its_client_too() {
    let config = resolved(&json!({"judges": client(json!(["alice"]))})).unwrap();
    assert_eq!(config.quota_of("judges"), Some(config.quota(1000)));
    assert_eq!(config.quota_of("1001"), Some(config.quota(1001)));
    assert_eq!(config.quota_of("gone"), None);
}

#[test]
fn no_profiles_means_none() {
    let mut section = client(json!(["alice"]));
    section["profiles"] = json!([]);
    assert!(!resolved(&json!({ "closed": section })).unwrap().quota(1000).allows("default"));
}

#[test]
fn unknown_users_are_an_error_only_where_they_should_be() {
    let clients = json!({"judges": client(json!(["alice", "carol"]))});
    parse(&clients).unwrap();
    let error = resolved(&clients).unwrap_err();
    assert_eq!(error, "clients.judges.users[1]: this host has no user \"carol\"");
    let error = resolved(&json!({"judges": client(json!(["broken"]))})).unwrap_err();
    assert!(error.contains("looking up \"broken\": no database"), "{error}");
}

#[test]
fn what_is_wrong_is_told_with_the_place() {
    let with = |key: &str, value: Value| {
        let mut section = client(json!(["alice"]));
        section[key] = value;
        json!({ "a": section })
    };
    let lacking = |key: &str| {
        let mut section = client(json!([]));
        section.as_object_mut().unwrap().remove(key);
        json!({ "a": section })
    };
    for (clients, told) in [
        (with("weight", json!(0)), "clients.a.weight: 0 is not from 1 to 1000"),
        (with("weight", json!(1001)), "clients.a.weight: 1001 is not from 1 to 1000"),
        (with("queue_length", json!(0)), "clients.a.queue_length: 0 is not at least 1"),
        (with("profiles", json!(["judge", "x"])), "clients.a.profiles[1]: there is no profile \"x\""),
        (with("profiles", json!(["judge", "judge"])), "clients.a.profiles[1]: \"judge\" stands there twice"),
        (with("users", json!([4_294_967_295_u32])), "clients.a.users[0]: no user has the id 4294967295"),
        (with("users", json!([1, "x", "1"])), "clients.a.users[2]: 1 is a user of clients.a already"),
        (with("users", json!([-1])), "a user must be a name or an id"),
        (with("nice", json!(0)), "unknown field `nice`"),
        (lacking("concurrency"), "missing field `concurrency`"),
        (lacking("profiles"), "missing field `profiles`"),
        (json!({"1000": client(json!([]))}), "clients.1000: the name of a client begins with a letter"),
        (json!({"a b": client(json!([]))}), "clients.a b: the name of a client"),
        (
            json!({"a": client(json!(["x"])), "b": client(json!(["y", "x"]))}),
            "clients.b.users[1]: \"x\" is a user of clients.a already",
        ),
    ] {
        let error = parse(&clients).unwrap_err();
        assert!(error.contains(told), "{told:?} is not in {error:?}");
        assert!(error.contains("clients."), "{error:?} does not tell the place");
    }
}

#[test]
fn one_user_under_two_names_is_found_when_names_are_looked_up() {
    let clients = json!({"a": client(json!(["alice"])), "b": client(json!([1000]))});
    parse(&clients).unwrap();
    assert_eq!(resolved(&clients).unwrap_err(), "clients.b.users[0]: 1000 is a user of clients.a already");
}
