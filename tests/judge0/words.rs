//! Answers word for word, and what is told of the service.

use super::*;

#[test]
fn errors_have_judge0s_words_and_codes() {
    let service = service(&json!({"enable_wait_result": false}));
    let submissions = "/submissions";
    let both = json!({"language_id": ["can't be blank", "language with id  doesn't exist"], "source_code": ["can't be blank"]});
    for (path, body, status, told) in [
        (submissions, "{}", 422, both.clone()),
        (submissions, "", 422, both.clone()),
        (submissions, "[]", 422, both.clone()),
        (submissions, "{", 400, json!({"status": 400, "error": "Bad Request"})),
        (
            submissions,
            r#"{"source_code":"x","language_id":9999}"#,
            422,
            json!({"language_id": ["language with id 9999 doesn't exist"]}),
        ),
        (
            submissions,
            r#"{"source_code":"x","language_id":46,"cpu_time_limit":16}"#,
            422,
            json!({"cpu_time_limit": ["must be less than or equal to 15.0"]}),
        ),
        ("/submissions?wait=true", "{}", 400, json!({"error": "wait not allowed"})),
        ("/submissions?fields=x,stdout,y", "{}", 400, json!({"error": "invalid fields: [x, y]"})),
        ("/submissions/batch", "{}", 400, json!({"error": "there should be at least one submission in a batch"})),
        ("/submissions/batch", r#"{"submissions":[{}]}"#, 422, json!([both])),
        (
            "/submissions?base64_encoded=true",
            r#"{"source_code":"echo 1","language_id":46}"#,
            422,
            json!({"source_code": ["is not valid base64"]}),
        ),
    ] {
        let answer = service.request("POST", &format!("/judge0{path}"), &JSON, body);
        assert_eq!((answer.status, answer.json()), (status, told), "{path} {body}");
        assert_eq!(answer.headers["content-type"], "application/json; charset=utf-8");
    }
    let many = json!({"submissions": vec![bash("true"); 21]});
    let told = json!({"error": "number of submissions in a batch should be less than or equal to 20"});
    assert_eq!(post(&service, "/submissions/batch", &many).json(), told);
    // What is large is read elsewhere, and answered alike.
    let many = json!({"submissions": vec![with(bash("true"), json!({"stdin": "x".repeat(8192)})); 21]});
    assert_eq!(post(&service, "/submissions/batch", &many).json(), told);
    let unknown = json!({"x": vec![json!({"": 0}); 20_000]});
    assert_eq!(post(&service, "/submissions", &unknown).json(), both);
    assert_eq!(post(&service, "/submissions", &with(bash("true"), unknown)).status, 201);
    let broken = format!("{{\"stdin\": \"{}", "x".repeat(100_000));
    let answer = service.request("POST", "/judge0/submissions", &JSON, &broken);
    assert_eq!((answer.status, answer.json()), (400, json!({"status": 400, "error": "Bad Request"})));
    // A form is not read, so that no page can send one without asking first.
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let answer = service.request("POST", "/judge0/submissions", &form, "source_code=x&language_id=46");
    assert_eq!((answer.status, answer.json()), (422, both));
    for path in ["/submissions/none", "/languages/0", "/languages/x", "/none"] {
        let answer = get(&service, path);
        assert_eq!((answer.status, answer.json()), (404, json!({"status": 404, "error": "Not Found"})), "{path}");
    }
    let tokens: Vec<&str> = vec!["x"; 21];
    let answer = get(&service, &format!("/submissions/batch?tokens={}", tokens.join(",")));
    assert_eq!((answer.status, answer.json()), (400, told));
    assert_eq!(get(&service, "/submissions/batch?tokens=x,y").json(), json!({"submissions": [null, null]}));
    // Positive control: with and without a slash at the end.
    for path in ["/submissions", "/submissions/?base64_encoded=false"] {
        assert_eq!(post(&service, path, &bash("true")).status, 201);
    }
}

#[test]
fn the_service_tells_of_itself() {
    let service = service(&json!({}));
    let languages = get(&service, "/languages").json();
    let named = |id: u64| {
        let found = languages.as_array().unwrap().iter().find(|language| language["id"] == id);
        found.map(|language| language["name"].as_str().unwrap().to_owned())
    };
    assert!(named(71).unwrap().starts_with("Python (3."), "{languages}");
    assert!(named(50).unwrap().starts_with("C (GCC "), "{languages}");
    assert_eq!(named(83), None);
    assert_eq!(named(89).as_deref(), Some("Multi-file program"));
    let all = get(&service, "/languages/all").json();
    let swift = all.as_array().unwrap().iter().find(|language| language["id"] == 83).unwrap();
    assert_eq!(swift, &json!({"id": 83, "name": "Swift (5.2.3)", "is_archived": true}));
    let c = get(&service, "/languages/50").json();
    assert_eq!((&c["source_file"], &c["is_archived"]), (&json!("main.c"), &json!(false)));
    assert!(c["compile_cmd"].as_str().unwrap().contains("gcc") && c["run_cmd"] == "./program", "{c}");
    let statuses = get(&service, "/statuses").json();
    assert_eq!(statuses.as_array().unwrap().len(), 14);
    assert_eq!(statuses[10], json!({"id": 11, "description": "Runtime Error (NZEC)"}));
    assert_eq!(get(&service, "/about").json()["version"], "1.13.1");
    assert_eq!(&get(&service, "/version").body[..], b"1.13.1");
    let config = get(&service, "/config_info").json();
    assert_eq!((&config["max_cpu_time_limit"], &config["enable_callbacks"]), (&json!(15.0), &json!(false)));
    assert_eq!(config["allow_enable_network"], false);
    run(&service, &bash("true"));
    let statistics = get(&service, "/statistics").json();
    assert_eq!((&statistics["submissions"]["total"], &statistics["submissions"]["today"]), (&json!(1), &json!(1)));
    assert_eq!(statistics["languages"][0]["language"]["id"], 46);
    assert_eq!(statistics["statuses"][0]["status"], json!({"id": 3, "name": "Accepted"}));
    assert_eq!(statistics["submissions"]["last_30_days"].as_object().unwrap().len(), 30);
    assert_eq!(get(&service, "/workers").json()[0]["queue"], "1.13.1");
    for path in ["/system_info", "/isolate", "/license"] {
        assert_eq!(get(&service, path).status, 200);
    }
}

#[test]
fn nothing_is_there_where_it_is_not_enabled() {
    let service = Service::start();
    assert_eq!(get(&service, "/languages").status, 404);
    assert_eq!(post(&service, "/submissions", &bash("true")).status, 404);
    assert_eq!(service.run_source("bash", "echo fine")["run"]["stdout"], "fine\n");
}

#[test]
fn whoever_has_no_token_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let service = service(&json!({
        "authn_token_file": file("authn", "alpha beta\n"),
        "authz_token_file": file("authz", "gamma\n"),
        "enable_submission_delete": true,
    }));
    let ask = |method: &str, path: &str, headers: &[(&str, &str)]| {
        service.request(method, &format!("/judge0{path}"), headers, "").status
    };
    let (known, both) = ([("x-auth-token", "beta")], [("x-auth-token", "alpha"), ("x-auth-user", "gamma")]);
    assert_eq!(ask("GET", "/languages", &[]), 401);
    assert_eq!(ask("GET", "/languages", &[("x-auth-token", "gamma")]), 401);
    assert_eq!(ask("GET", "/languages", &known), 200);
    assert_eq!(ask("GET", "/languages?X-Auth-Token=alpha", &[]), 200);
    assert_eq!(ask("POST", "/authenticate", &known), 200);
    assert_eq!(ask("POST", "/authorize", &known), 403);
    assert_eq!(ask("POST", "/authorize", &both), 200);
    assert_eq!(ask("GET", "/submissions", &known), 403);
    assert_eq!(ask("GET", "/submissions", &both), 200);
    assert_eq!(ask("DELETE", "/submissions/x", &known), 403);
    assert_eq!(ask("DELETE", "/submissions/x", &both), 404);
}

#[test]
fn in_maintenance_nothing_new_is_taken() {
    let service = service(&json!({"maintenance_mode": true, "maintenance_message": "back soon"}));
    let answer = post(&service, "/submissions", &bash("true"));
    assert_eq!((answer.status, answer.json()), (503, json!({"error": "back soon"})));
    assert_eq!(get(&service, "/languages").status, 200);
}
