//! The log: what is written is read again, and everything else is refused by line and field.

#![cfg(feature = "audit")]

use draftpick::audit::log::{Header, Reader, Writer};
use draftpick::audit::simulate::{Chain, Engine, records};
use draftpick::audit::{Audit, Record, Settings};
use draftpick::trace::{Precision, Values};
use draftpick::{Drawn, Pmf, Sampling};

const HEADER: &str = r#"{"format":"draftpick-log","version":1,"vocab":3}"#;

fn read(log: &str) -> Result<Vec<Record>, String> {
    let mut reader = Reader::new(log.as_bytes()).map_err(|error| error.to_string())?;
    let mut records = Vec::new();
    while let Some(record) = reader.next_record().map_err(|error| error.to_string())? {
        records.push(record);
    }
    Ok(records)
}

#[track_caller]
fn refused(log: &str, message: &str) {
    let error = read(log).unwrap_err();
    assert!(error.starts_with(message), "{error:?} is not {message:?}");
}

#[track_caller]
fn refused_line(line: &str, message: &str) {
    refused(&format!("{HEADER}\n{{\"drafts\":[],\"target\":[0,0,0],\"output\":[1]}}\n{line}\n"), message);
}

fn chain() -> Chain {
    let law = |weights: [f64; 4]| Pmf::from_weights(weights).unwrap();
    Chain::new(
        vec![law([1.0, 2.0, 3.0, 4.0]), law([4.0, 0.0, 1.0, 1.0])],
        vec![law([4.0, 2.0, 1.0, 0.0]), law([1.0, 1.0, 1.0, 1.0])],
    )
    .unwrap()
}

/// The wealth after a log, in any form, is that of the records themselves.
#[test]
fn what_is_written_is_read_again() {
    for (values, precision, top, epsilon) in [
        (Values::Logits, Precision::F64, None, 1e-9),
        (Values::Logits, Precision::F32, None, 1e-4),
        (Values::Logits, Precision::F16, None, 0.3),
        (Values::Probabilities, Precision::F64, None, 1e-9),
        (Values::Probabilities, Precision::F32, None, 1e-4),
        (Values::Probabilities, Precision::Bf16, None, 1.0),
        (Values::Logits, Precision::F32, Some(2), 1e-9),
        (Values::Probabilities, Precision::F32, Some(2), 1e-9),
    ] {
        let chain = top.map_or(chain(), |most| chain().logging_top(most));
        let mut header = Header::new(4, values, Some(precision));
        (header.rule, header.accuracy) = (Some("kseq".parse().unwrap()), 0.0);
        let mut writer = Writer::new(Vec::new(), header.clone()).unwrap();
        let engine = Engine::Honest("kseq".parse().unwrap());
        let written: Vec<Record> = records(&chain, engine, 2, 2, 1).take(50).map(Result::unwrap).collect();
        written.iter().for_each(|record| writer.write(record).unwrap());
        let bytes = writer.finish().unwrap();
        let mut reader = Reader::new(&bytes[..]).unwrap();
        assert_eq!(*reader.header(), header);
        let (mut before, mut after) = (Audit::new(Settings::default()), Audit::new(Settings::default()));
        for record in &written {
            let again = reader.next_record().unwrap().unwrap();
            assert_eq!(
                (again.output(), again.paths(), again.path(1), again.accepted()),
                (record.output(), record.paths(), record.path(1), record.accepted())
            );
            before.add(before.plan().look(before.rounds(), record).unwrap());
            after.add(after.plan().look(after.rounds(), &again).unwrap());
        }
        assert!(reader.next_record().unwrap().is_none());
        for (one, two) in before.tested().iter().zip(after.tested()) {
            assert!((one.log_e - two.log_e).abs() < epsilon, "{values:?} {precision}: {} {}", one.log_e, two.log_e);
            assert_eq!(one.outcomes, two.outcomes);
        }
    }
}

#[test]
fn all_forms_of_scores_are_read() {
    // 1.0, 0.0 and -inf in f32, f16.
    for (entries, row) in [
        ("", "[1, 0.0, null]"),
        (",\"precision\":\"f32\"", "\"AACAPwAAAAAAAID/\""),
        (",\"precision\":\"f16\"", "\"ADwAAAD8\""),
        ("", r#"{"tokens":[1,0],"values":[0,1],"tail":0}"#),
        (",\"values\":\"probabilities\"", "[0.7310585786300049, 0.2689414213699951, 0]"),
        (",\"sampling\":{\"temperature\":2,\"top_k\":2}", "[2, 0, -5]"),
    ] {
        let header = format!("{}{entries}}}", HEADER.trim_end_matches('}'));
        let record = &read(&format!("{header}\n{{\"drafts\":[],\"target\":{row},\"output\":[0]}}")).unwrap()[0];
        let mut audit = Audit::new(Settings::default());
        audit.add(audit.plan().look(0, record).unwrap());
        let greedy = 0.5 * (1.0 / 0.7310585786300049 - 1.0);
        // The richest bet was on the most probable token.
        let peak = audit.tested()[0].log_e;
        assert!(peak > 0.0 && peak < greedy, "{row}: {peak}");
    }
    let entries = r#","rule":"rrs-wor","note":{"engine":"x"},"draft_sampling":{"top_p":0.5}"#;
    let log = format!("{}{entries}}}", HEADER.trim_end_matches('}'));
    let header = Reader::new(log.as_bytes()).unwrap();
    assert_eq!(header.header().drawn, Drawn::WithoutReplacement);
    assert_eq!(header.header().draft_sampling, Sampling { top_p: Some(0.5), ..Sampling::default() });
}

#[test]
fn bad_headers_are_refused() {
    refused("", "line 1: there is no header");
    refused("\n", "line 1: EOF while parsing");
    refused("{\"drafts\":[]}", "line 1: unknown field `drafts`");
    refused(r#"{"format":"draftpick-log","vocab":3}"#, "line 1: missing field `version`");
    let entry = |entry: &str, message: &str| {
        refused(&format!("{},{entry}}}", HEADER.trim_end_matches('}')), &format!("line 1: {message}"));
    };
    refused(r#"{"format":"x","version":1,"vocab":3}"#, "line 1: format: 'x'");
    refused(r#"{"format":"draftpick-log","version":2,"vocab":3}"#, "line 1: version: '2'");
    refused(r#"{"format":"draftpick-log","version":1,"vocab":0}"#, "line 1: vocab: '0'");
    entry(r#""values":"scores""#, "values: 'scores'");
    entry(r#""precision":"f8""#, "precision: 'f8'");
    entry(r#""precision":"f16","values":"probabilities""#, "precision: 'f16'");
    entry(r#""accuracy":1.5"#, "accuracy: '1.5'");
    entry(r#""rule":"best""#, "rule: no rule is called 'best'");
    entry(r#""drawn":"somehow""#, "drawn: 'somehow'");
    entry(r#""sampling":{"temperature":-1}"#, "sampling: temperature is -1");
    entry(r#""draft_sampling":{"top_k":0}"#, "draft_sampling: top_k is 0");
    entry(r#""precison":"f32""#, "unknown field `precison`");
}

#[test]
fn bad_lines_are_refused_by_number_and_field() {
    let target = r#""target":[0,0,0]"#;
    refused_line("", "line 3: EOF while parsing");
    refused_line("{\"drafts\":[1],", "line 3: EOF while parsing");
    refused_line(&format!("{{\"drafts\":[],{target}}}"), "line 3: missing field `output`");
    refused_line(
        &format!("{{\"drafts\":[],{target},\"output\":[1],\"outputs\":[]}}"),
        "line 3: unknown field `outputs`",
    );
    refused_line(&format!("{{\"drafts\":[],{target},\"output\":[]}}"), "line 3: output: there is no token");
    refused_line(&format!("{{\"drafts\":[],{target},\"output\":[3]}}"), "line 3: output[0]: token 3 is outside");
    refused_line(&format!("{{\"drafts\":[],{target},\"output\":[-1]}}"), "line 3: invalid value: integer `-1`");
    refused_line(&format!("{{\"drafts\":[5000000000],{target},\"output\":[1]}}"), "line 3: invalid value");
    refused_line(
        &format!("{{\"drafts\":[1,[2]],{target},\"output\":[1]}}"),
        "line 3: drafts: must be tokens, or paths",
    );
    refused_line(&format!("{{\"drafts\":[3],{target},\"output\":[1]}}"), "line 3: drafts[0][0]: token 3 is outside");
    refused_line(&format!("{{\"drafts\":[1],{target},\"output\":[1,2]}}"), "line 3: target[0][1]: no scores");
    let row = |row: &str, message: &str| {
        refused_line(
            &format!("{{\"drafts\":[],\"target\":{row},\"output\":[1]}}"),
            &format!("line 3: target: {message}"),
        );
    };
    row("[0,0]", "2 numbers; the vocabulary has 3");
    row("[null,null,null]", "scores are a list of numbers");
    row("7", "scores are a list of numbers");
    row("\"AACAPwAAAAAAAID/\"", "numbers are packed in a string; the header must say");
    row(r#"{"tokens":[0],"values":[1,2],"tail":0.5}"#, "1 tokens are listed with 2 values");
    row(r#"{"tokens":[0],"values":[1],"tail":1}"#, "the mass of the other tokens is 1");
    row(r#"{"tokens":[0,1],"values":[null,null],"tail":0.5}"#, "the logit of token 0 is -inf");
    row(r#"{"tokens":[0,0],"values":[1,1],"tail":0.5}"#, "token 0 is listed twice");
    row(r#"{"tokens":[0,9],"values":[1,1],"tail":0.5}"#, "token 9 is outside");
    row(r#"{"tokens":[0,1,2],"values":[1,1,1],"tail":0.5}"#, "all tokens are listed");
    refused_line(
        r#"{"drafts":[],"target":{"tokens":[0],"value":[1],"tail":0.5},"output":[1]}"#,
        "line 3: unknown field `value`",
    );
    refused_line(
        r#"{"drafts":[[1,2]],"target":[[[0,0,0],[0,0],null]],"output":[0]}"#,
        "line 3: target[0][1]: 2 numbers",
    );
    refused_line(r#"{"drafts":[[1,2]],"target":[0,0,0],"output":[0]}"#, "line 3: target: must be for each path");
    refused_line(r#"{"drafts":[[1]],"target":[[[0,0,0]]],"output":[0]}"#, "line 3: target[0]: 1 entries where");
    refused_line(
        r#"{"drafts":[[1,2]],"draft":[[[0,0,0],null]],"target":[[[0,0,0],null,null]],"output":[0]}"#,
        "line 3: draft[0][1]: no scores, and no earlier path gave them",
    );
    let with = |entries: &str, row: &str, message: &str| {
        let header = format!("{}{entries}}}", HEADER.trim_end_matches('}'));
        refused(
            &format!("{header}\n{{\"drafts\":[],\"target\":{row},\"output\":[1]}}"),
            &format!("line 2: target: {message}"),
        );
    };
    with(",\"precision\":\"f32\"", "\"AACAPwAA\"", "6 bytes are packed in the string; 12 are 3 numbers in f32");
    with(",\"precision\":\"f32\"", "\"AACA?wAA\"", "not in base64");
    with(",\"precision\":\"f32\"", "\"AACAPwAAAAAAAMD/\"", "the logit of token 2 is NaN");
    with(",\"precision\":\"f32\"", "\"AACAPwAAAAAAAIB/\"", "the logit of token 2 is inf");
    with(",\"values\":\"probabilities\"", "[0.5,0.4,0.2]", "the probabilities add up to 1.1");
    with(",\"values\":\"probabilities\"", "[0.5,0.7,-0.2]", "the probability of token 2 is -0.2");
    with(
        ",\"values\":\"probabilities\"",
        r#"{"tokens":[0],"values":[0.4],"tail":0.5}"#,
        "the probabilities and the mass",
    );
    with(",\"sampling\":{\"top_k\":2}", r#"{"tokens":[0],"values":[0],"tail":0.5}"#, "only some tokens are listed");
}
