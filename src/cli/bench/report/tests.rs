//! The shape of the JSON, and what the text says of it.

use serde_json::json;

use super::*;

fn report() -> Report {
    let machine = Machine {
        processor: "Abacus".to_owned(),
        processors: 2,
        virtual_machine: true,
        memory_mib: 2000,
        kernel: "6.1".to_owned(),
        load: 0.5,
    };
    let contender = |name: &str, p50: f64, errors: &[(&str, usize)]| Contender {
        name: name.to_owned(),
        latency_ms: Summary { count: 9, p50, ..Summary::default() },
        per_second: 100.0,
        ratio: Some(p50 / 2.0),
        errors: errors.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect(),
    };
    let measurement = Measurement {
        program: "python",
        runtime: "python@3.11".to_owned(),
        clients: 8,
        mode: "open",
        shape: "burst",
        rate_per_s: Some(50.0),
        keep_alive: false,
        notes: vec!["mind\x1b[2J this".to_owned()],
        service: ServiceSide {
            answered: 8,
            warm: 6,
            parked: 0,
            cold: 2,
            cached: 0,
            overhead_ms: Some(Overhead { total: 1.5, ..Overhead::default() }),
            late_ms: 0.0,
        },
        contenders: vec![contender("codesandbox", 1.0, &[("HTTP 429", 2)]), contender("bare python", 2.0, &[])],
    };
    Report { machine, service: "embedded".to_owned(), measurements: vec![measurement] }
}

#[test]
fn json_has_this_shape() {
    let json = serde_json::to_value(report()).unwrap();
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(keys(&json), "machine measurements service");
    let one = &json["measurements"][0];
    assert_eq!(keys(one), "clients contenders keep_alive mode notes program rate_per_s runtime service shape");
    assert_eq!(keys(&one["service"]), "answered cached cold late_ms overhead_ms parked warm");
    assert_eq!(keys(&one["contenders"][0]), "errors latency_ms name per_second ratio");
    assert_eq!(keys(&one["contenders"][0]["latency_ms"]), "count max mean min p50 p95 p99");
    assert_eq!(one["contenders"][0]["errors"], json!({"HTTP 429": 2}));
}

#[test]
fn the_text_tells_ratios_shares_and_errors() {
    let text = render(&report());
    for part in [
        "2 × Abacus, in a virtual machine, 2 GiB",
        "8 clients, open burst, 50 a second",
        "2 × HTTP 429",
        "75 % warm, 0 % parked, 25 % cold",
        "own share: 1.50 ms",
        "0.50",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(!text.contains('\x1b') && !text.contains("sent late"), "{text}");
}
