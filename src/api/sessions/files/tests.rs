//! Requests about files, and what is told of them.

use super::*;

fn search(json: serde_json::Value) -> Result<Search, Problem> {
    search_of(serde_json::from_value(json).unwrap())
}

#[test]
fn a_search_is_completed() {
    let found = search(serde_json::json!({ "name": "**/*.py" })).unwrap();
    assert_eq!((found.place, found.content, found.hits), (Place::Root, None, FOUND));
    let found = search(serde_json::json!({ "path": "a", "content": "x+", "regex": true, "limit": 7 })).unwrap();
    assert_eq!((found.content, found.hits), (Some(Content::Regex("x+".to_owned())), 7));
    let found = search(serde_json::json!({ "content": "x+" })).unwrap();
    assert_eq!(found.content, Some(Content::Text("x+".to_owned())));
}

#[test]
fn a_search_that_is_none_names_its_field() {
    for (json, field) in [
        (serde_json::json!({}), "name"),
        (serde_json::json!({ "name": "" }), "name"),
        (serde_json::json!({ "name": "[a" }), "name"),
        (serde_json::json!({ "content": "" }), "content"),
        (serde_json::json!({ "content": "x".repeat(1025) }), "content"),
        (serde_json::json!({ "content": "x", "path": ".." }), "path"),
        (serde_json::json!({ "content": "x", "limit": 0 }), "limit"),
        (serde_json::json!({ "content": "x", "limit": 10_001 }), "limit"),
    ] {
        assert_eq!(search(json).unwrap_err().field.as_deref(), Some(field));
    }
}

#[test]
fn what_is_no_text_is_told_in_base64() {
    let entry = Entry {
        path: b"\xfe".to_vec(),
        kind: plan::Kind::Link,
        size: 0,
        mode: 0o777,
        modified_ms: -1,
        target: Some(b"a".to_vec()),
    };
    let json = serde_json::to_value(entry_response(entry)).unwrap();
    let expected = serde_json::json!({
        "path_base64": "/g==", "kind": "link", "size": 0, "mode": 511,
        "modified_at": "1970-01-01T00:00:00.000Z", "target": "a",
    });
    assert_eq!(json, expected);
}

#[test]
fn changes_are_told_by_name() {
    for (event, json) in [
        (FileEvent::Created(b"a".to_vec()), serde_json::json!({ "event": "created", "path": "a" })),
        (FileEvent::Modified(b"a".to_vec()), serde_json::json!({ "event": "modified", "path": "a" })),
        (FileEvent::Removed(b"\xff".to_vec()), serde_json::json!({ "event": "removed", "path_base64": "/w==" })),
        (
            FileEvent::Moved { from: b"a".to_vec(), to: b"b".to_vec() },
            serde_json::json!({ "event": "moved", "path": "b", "from": "a" }),
        ),
        (FileEvent::Overflow, serde_json::json!({ "event": "overflow" })),
    ] {
        assert_eq!(serde_json::to_value(change_event(event)).unwrap(), json);
    }
}

#[tokio::test]
async fn an_upload_is_held_to_its_limit() {
    let body = |text: &'static [&'static str]| {
        Body::from_stream(tokio_stream::iter(text.iter().map(|piece| Ok::<_, io::Error>(*piece))))
    };
    let mut pieces = Pieces { body: body(&["12", "345"]), left: 5, most: 5 };
    assert_eq!(pieces.next().await.unwrap().as_deref(), Some(&b"12"[..]));
    assert_eq!(pieces.next().await.unwrap().as_deref(), Some(&b"345"[..]));
    assert_eq!(pieces.next().await.unwrap(), None);
    let mut pieces = Pieces { body: body(&["12", "3456"]), left: 5, most: 5 };
    assert!(pieces.next().await.unwrap().is_some());
    let problem = pieces.next().await.unwrap_err();
    assert_eq!(
        (problem.kind, problem.allowed.as_deref()),
        (Kind::BodyTooLarge, Some(&serde_json::json!({ "maximum": 5 })))
    );
    assert_eq!(fitting(6, 5).unwrap_err().kind, Kind::BodyTooLarge);
}

#[tokio::test]
async fn an_upload_that_breaks_off_is_told_of() {
    let broken = tokio_stream::iter([Ok("1"), Err(io::Error::other("gone"))]);
    let mut pieces = Pieces { body: Body::from_stream(broken), left: 9, most: 9 };
    assert!(pieces.next().await.unwrap().is_some());
    assert_eq!(pieces.next().await.unwrap_err().kind, Kind::BrokenBody);
}

#[test]
fn a_part_that_is_not_there_is_refused_with_the_size() {
    let response = no_such_part(7);
    assert_eq!(response.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(response.headers()[CONTENT_RANGE], "bytes */7");
}
