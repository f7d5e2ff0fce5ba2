//! The command line, as users and scripts see it.

use std::fs;
use std::path::Path;
use std::process::Output;

use std::net::{Ipv6Addr, TcpListener};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::client::{Http, grpc, request};
use crate::support::store::Store;
use crate::support::tollgate::{Tollgate, command};

const GOOD: &str =
    "domain: shop\ndescriptors:\n- key: user\n  limits: [{ name: daily, rate: 5/day }]\n";
const BAD: &str = "domain: shop\nanswr: {}\ndescriptors:\n- key: user\n  limits: [5/dya]\n";

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn tollgate(folder: &Path, arguments: &[&str]) -> Output {
    command().current_dir(folder).args(arguments).output().unwrap()
}

/// The expected text on one of the standard streams; the other must be empty.
#[derive(Clone, Copy)]
enum Reported<'a> {
    Out(&'a [&'a str]),
    Err(&'a [&'a str]),
}

/// Checks the exit status and the streams, and returns the standard output.
#[track_caller]
fn check(folder: &Path, arguments: &[&str], status: i32, reported: Reported<'_>) -> String {
    let output = tollgate(folder, arguments);
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let all = format!("{arguments:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}");
    assert_eq!(output.status.code(), Some(status), "{all}");
    let (texts, stream, silent) = match reported {
        Reported::Out(texts) => (texts, &stdout, &stderr),
        Reported::Err(texts) => (texts, &stderr, &stdout),
    };
    texts.iter().for_each(|text| assert!(stream.contains(text), "no {text:?} in\n{all}"));
    assert!(silent.is_empty(), "{all}");
    stdout
}

#[test]
fn check_passes_good_policies() {
    let folder = folder(&[("a.yaml", GOOD)]);
    check(folder.path(), &["check", "a.yaml"], 0, Reported::Out(&["1 file, 1 domain: no errors"]));
    check(folder.path(), &["check", "."], 0, Reported::Out(&["1 file, 1 domain: no errors"]));
}

#[test]
fn check_tells_every_problem_with_place_and_caret() {
    let folder = folder(&[("a.yaml", BAD)]);
    let problems = ["answr", "--> a.yaml:2:1", "dya", "--> a.yaml:5:", "^^^", "2 errors"];
    check(folder.path(), &["check", "a.yaml"], 1, Reported::Err(&problems));
}

#[test]
fn check_tells_problems_as_json() {
    let folder = folder(&[("a.yaml", BAD), ("b.yaml", GOOD)]);
    let arguments = ["check", "--format", "json", "a.yaml"];
    let reported: Value =
        serde_json::from_str(&check(folder.path(), &arguments, 1, Reported::Out(&["{"]))).unwrap();
    assert_eq!(reported["ok"], false);
    assert_eq!(reported["problems"][0]["file"], "a.yaml");
    assert_eq!(reported["problems"][0]["line"], 2);
    let fine = ["check", "--format=json", "b.yaml"];
    check(folder.path(), &fine, 0, Reported::Out(&["\"ok\": true"]));
    let missing = ["check", "--format=json", "gone.yaml"];
    check(folder.path(), &missing, 1, Reported::Out(&["can't read gone.yaml"]));
}

#[test]
fn check_tells_which_names_of_callers_no_policy_has() {
    let policy = GOOD.replace("shop\n", "shop\ncaller: {key: user}\ntiers: [free, premium]\n");
    let callers = "callers:\n  a: { tier: premiun }\n  b:\n    overrides: { daily: 1, dayly: 2 }\n    bonuses:\n    - { limit: day, amount: 1, until: 2099-01-01 }\n";
    let good = callers.replace("premiun", "premium").replace(", dayly: 2", "");
    let good = good.replace("limit: day,", "limit: daily,");
    let files =
        [("p.yaml", policy.as_str()), ("c.yaml", callers), ("good.yaml", &good), ("bad.yaml", BAD)];
    let folder = folder(&files);
    let against = |callers, policies| ["check", "--callers", callers, "--policies", policies];
    let reported = [
        "unknown tier `premiun`; did you mean `premium`?",
        "--> c.yaml:2:14",
        "unknown limit `dayly`; did you mean `daily`?",
        "--> c.yaml:4:28",
        "unknown limit `day`; did you mean `daily`?",
        "--> c.yaml:6:16",
        "^^^",
        "3 errors",
    ];
    check(folder.path(), &against("c.yaml", "p.yaml"), 1, Reported::Err(&reported));
    let fine = ["1 file, 2 callers: no errors"];
    check(folder.path(), &against("good.yaml", "p.yaml"), 0, Reported::Out(&fine));
    check(folder.path(), &["check", "--callers", "c.yaml"], 0, Reported::Out(&fine));
    check(
        folder.path(),
        &against("good.yaml", "bad.yaml"),
        1,
        Reported::Err(&["--> bad.yaml:2:1"]),
    );
    check(folder.path(), &against("good.yaml", "gone"), 1, Reported::Err(&["can't read gone"]));
    let alone = ["check", "p.yaml", "--policies", "p.yaml"];
    check(folder.path(), &alone, 2, Reported::Err(&["--callers"]));
}

#[test]
fn check_against_tells_which_limits_would_start_a_new_count() {
    let other = GOOD.replace("5/day", "5/hour");
    let folder =
        folder(&[("old.yaml", GOOD), ("same.yaml", &GOOD.replace("5", "6")), ("new.yaml", &other)]);
    let reported = "domain `shop`, rule `user`: `daily` starts a new count: its window was `day`";
    let run = |new: &'static str| ["check", new, "--against", "old.yaml"];
    check(folder.path(), &run("same.yaml"), 0, Reported::Out(&["no errors, no warnings"]));
    let output = tollgate(folder.path(), &run("new.yaml"));
    assert!(output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains(reported));
    let strict = ["check", "new.yaml", "--against", "old.yaml", "--deny-warnings"];
    check(folder.path(), &strict, 1, Reported::Err(&[reported, "1 warning"]));
    let json = ["check", "new.yaml", "--against", "old.yaml", "--format", "json"];
    let report: Value =
        serde_json::from_str(&check(folder.path(), &json, 0, Reported::Out(&[]))).unwrap();
    assert_eq!(report["restarts"][0]["limit"], "daily");
    assert_eq!(report["counts_kept"], false);
    let bad = ["check", "old.yaml", "--against", "nowhere.yaml"];
    check(folder.path(), &bad, 1, Reported::Err(&["nowhere.yaml"]));
}

#[test]
fn check_against_says_that_all_counts_are_kept_or_that_the_old_policies_are_broken() {
    let new = GOOD.replace("5/day", "9/day");
    let folder = folder(&[("old.yaml", GOOD), ("new.yaml", &new), ("bad.yaml", BAD)]);
    let run = |new: &'static str, old: &'static str| ["check", new, "--against", old];
    let kept = "all existing limits keep their counts";
    check(folder.path(), &run("new.yaml", "old.yaml"), 0, Reported::Out(&["no warnings", kept]));
    let json = ["check", "new.yaml", "--against", "old.yaml", "-o", "json"];
    check(folder.path(), &json, 0, Reported::Out(&["\"counts_kept\": true"]));
    let blamed = "error: the policies of `--against bad.yaml` are invalid";
    let reported = ["--> bad.yaml:2:1", blamed, "2 files: 2 errors"];
    check(folder.path(), &run("new.yaml", "bad.yaml"), 1, Reported::Err(&reported));
    let stdout = check(folder.path(), &["check", "new.yaml"], 0, Reported::Out(&["no errors"]));
    assert!(!stdout.contains(kept), "{stdout}");
}

#[test]
fn check_against_finds_counts_that_a_rule_before_another_takes_over() {
    let rule = |value: &str| {
        format!("- key: f\n  value: {value}\n  share_threshold: true\n  limits: [5/day]\n")
    };
    let old = format!("domain: shop\ndescriptors:\n{}", rule("a*"));
    let new = format!("domain: shop\ndescriptors:\n{}{}", rule("'*z'"), rule("a*"));
    let folder = folder(&[("old.yaml", &old), ("new.yaml", &new)]);
    let strict = ["check", "new.yaml", "--against", "old.yaml", "--deny-warnings"];
    let reported = "rule `f=*z`: `f=*z 5/day` starts a new count for requests that met rule `f=a*` before: its values shared the counter of `a*`";
    check(folder.path(), &strict, 1, Reported::Err(&[reported]));
}

#[test]
fn check_against_finds_counts_that_move_to_another_path() {
    let paths = "domain: shop\ndescriptors:\n- key: user\n  descriptors:\n  - { key: op, limits: [5/day] }\n";
    let qualified = "domain: shop\nqualifiers: [op]\ncaller: { key: user }\ndescriptors:\n- { key: user, limits: [5/day] }\n";
    let folder = folder(&[("paths.yaml", paths), ("qualified.yaml", qualified)]);
    let strict =
        |new: &'static str, old: &'static str| ["check", new, "--against", old, "--deny-warnings"];
    let reported = "rule `user`: `user 5/day` starts a new count for requests that met rule `user/op` before: its path was `user/op`";
    check(folder.path(), &strict("qualified.yaml", "paths.yaml"), 1, Reported::Err(&[reported]));
    let reported = "rule `user/op`: `user/op 5/day` starts a new count for requests that met rule `user` before: its path was `user`";
    check(folder.path(), &strict("paths.yaml", "qualified.yaml"), 1, Reported::Err(&[reported]));
}

#[test]
fn check_against_tells_which_limits_are_gone() {
    let other = "domain: mall\ndescriptors:\n- { key: user, limits: [5/day] }\n";
    let renamed = GOOD.replace("shop", "store");
    let folder = folder(&[("shop.yaml", GOOD), ("mall.yaml", other), ("store.yaml", &renamed)]);
    let kept = "all existing limits keep their counts";
    let run = |new: &'static str, more: &[&'static str]| {
        [&["check", new, "--against", "."][..], more].concat()
    };
    // The edit may intend it, so it is not a warning.
    let output = tollgate(folder.path(), &run("store.yaml", &["--deny-warnings"]));
    let reported = String::from_utf8(output.stderr).unwrap();
    let line = |domain: &str, limit: &str| {
        format!("gone: domain `{domain}`, rule `user`: no limit uses the counts of `{limit}`\n")
    };
    assert_eq!(reported, line("mall", "user 5/day") + &line("shop", "daily"));
    assert!(output.status.success());
    assert!(!String::from_utf8(output.stdout).unwrap().contains(kept));
    let stdout = check(folder.path(), &run("mall.yaml", &["-o", "json"]), 0, Reported::Out(&[]));
    let report: Value = serde_json::from_str(&stdout).unwrap();
    let gone = |domain| json!({ "domain": domain, "rule": "user", "limit": "daily" });
    assert_eq!(report["gone"], json!([gone("shop"), gone("store")]));
    assert_eq!(report["counts_kept"], false);
    check(folder.path(), &run(".", &[]), 0, Reported::Out(&[kept]));
}

#[test]
fn check_warns_of_files_that_are_passed_over() {
    let folder = folder(&[("a.yaml", GOOD), ("basic", GOOD), ("a.yaml~", BAD), ("README.md", BAD)]);
    let reported = "basic is ignored: its name ends in neither .yaml nor .yml";
    let output = tollgate(folder.path(), &["check", "."]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && stderr.contains(reported), "{stderr}");
    assert_eq!(stderr.matches("warning").count(), 1, "{stderr}");
    check(
        folder.path(),
        &["check", ".", "--deny-warnings"],
        1,
        Reported::Err(&[reported, "1 warning"]),
    );
    let json = check(folder.path(), &["check", ".", "--format", "json"], 0, Reported::Out(&[]));
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["problems"][0]["severity"], "warning");
}

#[test]
fn check_tells_callers_and_policies_apart() {
    let callers = "callers:\n  a: { tier: premium }\n";
    let folder = folder(&[("p.yaml", GOOD), ("c.yaml", callers)]);
    let reported =
        ["this is a file of callers", "`tollgate check --callers`", "--> c.yaml:1:1", "1 error"];
    check(folder.path(), &["check", "c.yaml"], 1, Reported::Err(&reported));
    let reported = ["this is a policy", "without `--callers`", "--> p.yaml:1:1", "1 error"];
    check(folder.path(), &["check", "--callers", "p.yaml"], 1, Reported::Err(&reported));
}

#[test]
fn no_control_character_reaches_a_terminal() {
    const WILD: &str = "a\x1b[31m\n\u{9b}b\u{202e}\u{200b}";
    let policy = "domain: d\ndescriptors: [{ key: \"\\e[31m\", limits: [\"1\\e[31m/dya\"], \"\\x9b\u{202e}\": 1 }]\n";
    let raw =
        "domain: d # \u{9b}31m\ndescriptors: [{ key: a, limits: [1/dya] }] # \u{9b}31m\u{202e}\n";
    let folder = folder(&[("a.yaml", GOOD), ("p.yaml", policy), ("raw.yaml", raw), (WILD, BAD)]);
    let settings = folder.path().join("s\x1b.yaml");
    fs::write(&settings, "log_level: \"x\\e\"\n\"y\\e[31m\": 1\n").unwrap();
    let settings = settings.to_str().unwrap();
    let runs: &[&[&str]] = &[
        &[WILD],
        &["check", WILD],
        &["check", "p.yaml"],
        &["check", "raw.yaml"],
        &["check", "p.yaml", "-o", "json"],
        &["check", "a.yaml", "--against", WILD],
        &["check", "a.yaml\x1b[31m"],
        &["explain", "a.yaml", WILD, "user=a"],
        &["explain", "a.yaml", "shop", WILD],
        &["explain", "a.yaml", "shop", "user=\x1b[31m\u{9b}\u{202e}"],
        &["explain", "a.yaml", "shop", "user=\x1b[31m\u{9b}\u{202e}", "-o", "json"],
        &["explain", "a.yaml", WILD, "user=a", "-o", "json"],
        &["explain", "a.yaml", "shop", "--caller", WILD],
        &["explain", "a.yaml", "shop", "user=a", "--at", WILD],
        &["token", WILD, "--role", "viewer"],
        &["token", "ci", "--role", WILD],
        &["man", WILD],
        &["--log-level", WILD],
        &["--config", WILD],
        &["--config", settings],
        &["--policies", WILD],
        &["--policies", "p.yaml", "--http-address", "127.0.0.1:0", "--grpc-address", "127.0.0.1:0"],
    ];
    for arguments in runs {
        let output = tollgate(folder.path(), arguments);
        for stream in [output.stdout, output.stderr] {
            let text = String::from_utf8(stream).unwrap();
            let acts = |character: char| {
                let hides = matches!(character, '\u{200b}' | '\u{202e}');
                hides || character.is_control() && character != '\n'
            };
            assert!(!text.contains(acts), "{arguments:?}: {text:?}");
        }
    }
    let output = tollgate(folder.path(), &["token", WILD, "--role", "viewer"]);
    let reported = String::from_utf8(output.stderr).unwrap();
    assert!(
        reported.starts_with(r"error: invalid name `a\u{1b}[31m\n\u{9b}b\u{202e}\u{200b}`"),
        "{reported}"
    );
    let json = tollgate(folder.path(), &["check", "p.yaml", "-o", "json"]).stdout;
    assert_eq!(serde_json::from_slice::<Value>(&json).unwrap()["ok"], false);
}

#[test]
fn values_complete_and_pages_know_them() {
    let folder = folder(&[]);
    for shell in ["bash", "zsh", "fish"] {
        let script = check(folder.path(), &["completions", shell], 0, Reported::Out(&[]));
        for words in
            [["off", "trace"], ["text", "json"], ["viewer", "admin"], ["settings", "token"]]
        {
            let is_there = |word: &&str| script.contains(*word);
            assert!(words.iter().all(is_there), "no {words:?} for {shell}");
        }
    }
    let bash = check(folder.path(), &["completions", "bash"], 0, Reported::Out(&[]));
    for words in ["off error warn info debug trace", "\"true false\"", "viewer operator admin"] {
        assert!(bash.contains(words), "no {words} in {bash}");
    }
    let page = check(
        folder.path(),
        &["man"],
        0,
        Reported::Out(&["debug", "Examples", "tollgate\\-man(1)"]),
    );
    assert!(page.contains("\"tollgate 0."), "{page}");
    check(
        folder.path(),
        &["man", "check"],
        0,
        Reported::Out(&["tollgate\\-check", "\"tollgate 0."]),
    );
    // The settings report all invalid values at once.
    let wrong = ["--log-level", "loud", "--log-format", "xml"];
    check(
        folder.path(),
        &wrong,
        2,
        Reported::Err(&["`loud` is invalid; use one of off", "`xml` is invalid; use one of"]),
    );
}

#[test]
fn explain_without_a_descriptor_says_what_one_looks_like() {
    let folder = folder(&[("a.yaml", GOOD)]);
    let reported =
        ["error: missing DESCRIPTOR", "tollgate explain config/policies basic 'user_id=alice'"];
    check(folder.path(), &["explain", "a.yaml", "shop"], 2, Reported::Err(&reported));
}

#[test]
fn check_joins_domains_only_on_request() {
    let folder = folder(&[("a.yaml", GOOD), ("b.yaml", &GOOD.replace("user", "team"))]);
    check(folder.path(), &["check", "a.yaml", "b.yaml"], 1, Reported::Err(&["shop"]));
    let merged = ["check", "--merge-domains", "a.yaml", "b.yaml"];
    check(folder.path(), &merged, 0, Reported::Out(&["2 files, 1 domain"]));
}

#[test]
fn what_is_no_command_is_a_usage_error() {
    let folder = folder(&[("a.yaml", GOOD)]);
    check(folder.path(), &["chekc"], 2, Reported::Err(&["chekc"]));
    check(folder.path(), &["check"], 2, Reported::Err(&["PATH"]));
    check(folder.path(), &["--polices", "x"], 2, Reported::Err(&["--policies"]));
    check(folder.path(), &["explain", "a.yaml", "shop", "user"], 2, Reported::Err(&["key=value"]));
    check(folder.path(), &["check", "gone.yaml"], 1, Reported::Err(&["can't read gone.yaml"]));
}

#[test]
fn explain_names_the_rule_and_its_limits() {
    let folder = folder(&[("a.yaml", GOOD)]);
    let arguments = ["explain", "a.yaml", "shop", "user=alice"];
    check(folder.path(), &arguments, 0, Reported::Out(&["a.yaml:3", "daily", "5/day"]));
    let json = ["explain", "--format", "json", "a.yaml", "shop", "user=alice"];
    let reported = check(folder.path(), &json, 0, Reported::Out(&["daily"]));
    serde_json::from_str::<Value>(&reported).unwrap();
}

#[test]
fn schema_is_a_json_schema() {
    let reported = check(Path::new("."), &["schema"], 0, Reported::Out(&["$schema"]));
    let schema: Value = serde_json::from_str(&reported).unwrap();
    assert!(schema["properties"]["domain"].is_object());
    let reported = check(Path::new("."), &["schema", "--callers"], 0, Reported::Out(&["$schema"]));
    let schema: Value = serde_json::from_str(&reported).unwrap();
    assert!(schema["properties"]["callers"].is_object());
}

#[test]
fn a_token_is_made_for_a_name_and_a_role() {
    let token = |name| ["token", name, "--role", "viewer"];
    let here = Path::new(".");
    let reported = check(here, &token("ci"), 0, Reported::Out(&["Bearer", "  ci:viewer:"]));
    assert_ne!(reported, check(here, &token("ci"), 0, Reported::Out(&[])));
    for name in ["", "a b", "a:b", "loopback"] {
        check(here, &token(name), 2, Reported::Err(&["invalid name"]));
    }
    check(here, &["token", "ci", "--role", "root"], 2, Reported::Err(&["viewer, operator, admin"]));
    check(here, &["token", "ci"], 2, Reported::Err(&["--role"]));
}

#[test]
fn callers_that_are_wrong_stop_the_start() {
    let folder = folder(&[("a.yaml", GOOD), ("callers.yaml", "callers: {a: {teir: gold}}")]);
    let files = ["serve", "--policies", "a.yaml", "--callers", "callers.yaml"];
    let listen = ["--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0", "--log-level"];
    let arguments = [&files[..], &listen, &["error"]].concat();
    let reported =
        ["--> callers.yaml:1:15", "did you mean `tier`?", "no valid callers; not starting"];
    check(folder.path(), &arguments, 1, Reported::Err(&reported));
}

#[test]
fn help_teaches_every_setting() {
    let settings = fs::read_to_string("config/tollgate.yaml").unwrap();
    let names = settings.lines().filter_map(|line| {
        let (name, _) = line.strip_prefix('#')?.split_once(':')?;
        (!name.contains(' ')).then_some(name)
    });
    let help = check(
        Path::new("."),
        &["--help"],
        0,
        Reported::Out(&["Usage", "Examples", "tollgate check"]),
    );
    for name in names {
        let flag = format!("--{}", name.replace('_', "-"));
        let variable = format!("TOLLGATE_{}", name.to_uppercase());
        assert!(help.contains(&flag) && help.contains(&variable), "{name} is not in\n{help}");
    }
}

#[test]
fn the_version_names_the_commit() {
    let reported =
        check(Path::new("."), &["--version"], 0, Reported::Out(&[env!("CARGO_PKG_VERSION")]));
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        output.status.success().then_some(text)
    };
    let root = git(&["rev-parse", "--show-toplevel"]);
    let is_repository =
        root.is_some_and(|root| Path::new(&root) == Path::new(env!("CARGO_MANIFEST_DIR")));
    // The commit is an argument of the build; without a repository there is none.
    if is_repository && option_env!("BUILD_COMMIT").is_none_or(str::is_empty) {
        let commit = git(&["rev-parse", "--short=7", "HEAD"]).unwrap();
        assert_eq!(reported, format!("tollgate {} ({commit})\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn every_shell_gets_its_completions() {
    let here = Path::new(".");
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        check(here, &["completions", shell], 0, Reported::Out(&["explain", "redis-url"]));
    }
    check(here, &["completions", "tcl"], 2, Reported::Err(&["bash", "zsh"]));
    check(here, &["completions"], 2, Reported::Err(&["SHELL"]));
    let script = check(here, &["completions", "bash"], 0, Reported::Out(&[]));
    let completed = |words: &str| {
        let index = words.split(' ').count() - 1;
        let asking = format!(
            "{script}\nCOMP_WORDS=({words}); COMP_CWORD={index}; _tollgate tollgate \"${{COMP_WORDS[-1]}}\"; \
             echo \"${{COMPREPLY[@]}}\""
        );
        // The script is too long for an argument.
        let folder = folder(&[("ask.sh", &asking)]);
        let script = folder.path().join("ask.sh");
        let output = std::process::Command::new("bash").arg(script).output().unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(completed("tollgate expl"), "explain");
    assert_eq!(completed("tollgate --redis-ur"), "--redis-url");
    assert_eq!(completed("tollgate check --deny"), "--deny-warnings");
}

#[test]
fn the_man_pages_are_printed() {
    let here = Path::new(".");
    let texts =
        [".TH tollgate 1", "tollgate\\-check(1)", "\\-\\-redis\\-url", "TOLLGATE_REDIS_URL"];
    check(here, &["man"], 0, Reported::Out(&texts));
    let texts = [".TH tollgate-check 1", "\\-\\-deny\\-warnings", "kubectl get configmap"];
    check(here, &["man", "check"], 0, Reported::Out(&texts));
    check(here, &["man", "chekc"], 2, Reported::Err(&["invalid value 'chekc'", "'check'"]));
}

#[test]
fn settings_that_are_wrong_are_told_at_once() {
    let folder = folder(&[("t.yaml", "store_deadline: soon\nredis_ulr: redis://x\n")]);
    let mut command = command();
    command.current_dir(folder.path()).env("TOLLGATE_LOG_LEVEL", "loud");
    let output = command.args(["--config", "t.yaml", "--worker-threads", "none"]).output().unwrap();
    let reported = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{reported}");
    for text in
        ["t.yaml:1:17", "did you mean `redis_url`?", "TOLLGATE_LOG_LEVEL", "--worker-threads"]
    {
        assert!(reported.contains(text), "no {text:?} in\n{reported}");
    }
}

#[tokio::test]
async fn variables_of_the_reference_that_are_still_set_are_told_once_each() {
    let mut command = command();
    let set = [
        ("REDIS_URL", "redis:6379"),
        ("REDIS_AUTH", "hunter2"),
        ("USE_STATSD", "false"),
        // No text, and covered by --policies and --log-format.
        ("REDIS_TYPE", ""),
        ("RUNTIME_ROOT", "/data"),
        ("LOG_FORMAT", "json"),
    ];
    command.envs(set);
    let flags = ["--log-format", "text"];
    let tollgate = Tollgate::serve_by(command, GOOD, &Store::Embedded, &flags).await;
    let output = tollgate.output();
    let reported =
        |name: &str| output.matches(&format!("{name} of envoyproxy/ratelimit is set")).count();
    let counts = set.map(|(name, _)| (name, reported(name)));
    let expected = [
        ("REDIS_URL", 1),
        ("REDIS_AUTH", 1),
        ("USE_STATSD", 1),
        ("REDIS_TYPE", 0),
        ("RUNTIME_ROOT", 0),
        ("LOG_FORMAT", 0),
    ];
    assert_eq!(counts, expected, "{output}");
    assert!(output.contains("use TOLLGATE_REDIS_URL or "), "{output}");
    assert!(!output.contains("hunter2"), "{output}");
}

#[tokio::test]
async fn addresses_of_ipv6_are_listened_on() {
    if let Err(error) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
        eprintln!("skipped what needs IPv6, which is absent: {error}");
        return;
    }
    for (address, hosts) in [("[::1]:0", &["[::1]"][..]), ("[::]:0", &["[::1]", "127.0.0.1"])] {
        let flags = ["--grpc-address", address, "--http-address", address];
        let tollgate = Tollgate::serve_with(GOOD, &Store::Embedded, &flags).await;
        for host in hosts {
            let url = format!("http://{host}:{}/readyz", tollgate.http_address.port());
            assert_eq!(Http::new().get(&url, &[]).await.status, 200, "{url}");
            let mut client = grpc(&format!("http://{host}:{}", tollgate.grpc_address.port())).await;
            client.should_rate_limit(request("shop", &[&[("user", "a")]])).await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_address_that_another_process_has_is_told_with_the_likely_cause() {
    let running = Tollgate::serve(GOOD, &Store::Embedded).await;
    let folder = folder(&[("a.yaml", GOOD)]);
    let taken = running.http_address.to_string();
    let arguments = ["serve", "--policies", "a.yaml", "--http-address", &taken];
    let reported = [
        &*format!("can't listen on {taken} (http_address): Address already in use"),
        "perhaps a Tollgate that was told to end and still drains (drain_delay)",
    ];
    check(folder.path(), &arguments, 1, Reported::Err(&reported));
}

#[test]
fn policies_that_are_wrong_stop_the_start() {
    let folder = folder(&[("a.yaml", BAD)]);
    let arguments = ["serve", "--policies", "a.yaml", "--grpc-address", "127.0.0.1:0"];
    let http = ["--http-address", "127.0.0.1:0"];
    let reported = [
        // The fields stand beside the message, and the excerpt below both.
        "file=\"a.yaml\" line=2 column=1\n   --> a.yaml:2:1\n    |\n  2 | answr: {}\n    | ^^^^^",
        "file=\"a.yaml\" line=5 column=12\n   --> a.yaml:5:12\n",
        "no valid policies; not starting",
    ];
    check(folder.path(), &[&arguments[..], &http].concat(), 1, Reported::Err(&reported));
}
