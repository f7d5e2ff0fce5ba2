//! Reads the text of a policy file into the types of `schema/`, and notes every problem of form.

mod choice;
mod sharing;

use std::collections::BTreeMap;
use std::ops::Range;

use crate::limit::AMOUNT_MAX;

use crate::policy::problem::{Problem, Severity, Source};
use crate::policy::schema::{
    AlgorithmFile, AnswerBodyFile, AnswerFile, AnswerLimitsFile, AnswerMetadataFile, DefaultsFile,
    HeaderSetFile, LeaseFile, LimitFile, LimitMapFile, ModeFile, OutageFile, OverdraftFile,
    PolicyFile, RateLimitFile, ReplacesFile, RuleFile,
};
use crate::policy::yaml::{Fields, Node, Reader, Shape, Spanned, Value};

const POLICY: Shape = Shape {
    what: "a policy",
    keys: &[
        "domain",
        "timezone",
        "caller",
        "tiers",
        "qualifiers",
        "costs",
        "choices",
        "defaults",
        "answer",
        "descriptors",
    ],
    later: &[],
};
const DEFAULTS: Shape = Shape {
    what: "`defaults`",
    keys: &["algorithm", "mode", "on_outage", "overdraft", "wait", "lease"],
    later: &["grace"],
};
const ANSWER: Shape = Shape {
    what: "`answer`",
    keys: &["headers", "limits", "body", "metadata", "request_headers", "response_headers"],
    later: &[],
};
const RULE: Shape = Shape {
    what: "a rule",
    keys: &[
        "key",
        "value",
        "rate_limit",
        "limits",
        "cascade",
        "on_outage",
        "only",
        "capacity",
        "shadow_mode",
        "quota_mode",
        "detailed_metric",
        "value_to_metric",
        "share_threshold",
        "metadata",
        "descriptors",
    ],
    later: &[],
};
const RATE_LIMIT: Shape = Shape {
    what: "`rate_limit`",
    keys: &["requests_per_unit", "unit", "unlimited", "name", "replaces"],
    later: &[],
};
const REPLACES: Shape = Shape { what: "`replaces`", keys: &["name"], later: &[] };
const LIMIT: Shape = Shape {
    what: "a limit",
    keys: &[
        "rate",
        "by_tier",
        "name",
        "algorithm",
        "burst",
        "mode",
        "shadow",
        "on_outage",
        "cost",
        "overdraft",
        "wait",
        "lease",
    ],
    later: &["grace", "when"],
};

/// Where a key that stands at the wrong place may belong.
const ELSEWHERE: &[&Shape] = &[&POLICY, &RULE, &RATE_LIMIT, &LIMIT, &sharing::CAPACITY];

/// Reads a source. What has a problem is left out of the file that comes back.
pub fn read(source: &Source) -> (PolicyFile, Vec<Problem>) {
    let mut reader = Reader::new(source);
    let file = match Node::parse(&source.text) {
        Ok(node) => policy(&mut reader, &node),
        Err(error) => {
            reader.error(error.span, error.message);
            PolicyFile::default()
        }
    };
    (file, reader.into_problems())
}

fn policy(reader: &mut Reader<'_>, node: &Node) -> PolicyFile {
    if let (Some(callers), None) = (node.key("callers"), node.key("domain")) {
        let message = "this is a file of callers, not a policy: `tollgate check --callers` checks it, and the setting \
                       `callers` names it to `tollgate serve`";
        reader.error(callers.span.clone(), message);
        return PolicyFile::default();
    }
    let fields = reader.fields(node, &POLICY, ELSEWHERE);
    let domain = fields.get("domain").and_then(|node| reader.text(node, "`domain`"));
    if matches!(node.value, Value::Map(_)) && fields.get("domain").is_none() {
        reader.error(start_of(node), "the domain is missing; write `domain: NAME`");
    }
    PolicyFile {
        domain,
        timezone: fields.get("timezone").and_then(|node| reader.text(node, "`timezone`")),
        caller: fields.get("caller").map(|node| sharing::caller(reader, node)),
        tiers: fields.get("tiers").map(|node| sharing::names(reader, node, "`tiers`")),
        qualifiers: fields
            .get("qualifiers")
            .map(|node| sharing::names(reader, node, "`qualifiers`")),
        costs: fields.get("costs").map(|node| sharing::costs(reader, node)),
        choices: fields.get("choices").map(|node| choice::choices(reader, node)),
        defaults: fields.get("defaults").map(|node| defaults(reader, node)),
        answer: fields.get("answer").map(|node| answer(reader, node)),
        descriptors: rules(reader, &fields),
    }
}

fn defaults(reader: &mut Reader<'_>, node: &Node) -> DefaultsFile {
    let fields = reader.fields(node, &DEFAULTS, ELSEWHERE);
    DefaultsFile {
        algorithm: algorithm(reader, &fields),
        mode: mode(reader, &fields),
        on_outage: on_outage(reader, &fields),
        overdraft: overdraft(reader, &fields),
        wait: fields.get("wait").map(|node| sharing::wait(reader, node)),
        lease: lease(reader, &fields),
    }
}

fn rules(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Vec<RuleFile>> {
    let items = reader.list(fields.get("descriptors")?, "`descriptors`");
    Some(items.iter().map(|node| rule(reader, node)).collect())
}

fn rule(reader: &mut Reader<'_>, node: &Node) -> RuleFile {
    let fields = reader.fields(node, &RULE, ELSEWHERE);
    let key = fields.get("key").and_then(|node| reader.text(node, "`key`"));
    if matches!(node.value, Value::Map(_)) && key.as_ref().is_none_or(|key| key.value.is_empty()) {
        reader.error(start_of(node), "a rule without a `key`");
    }
    let mut flag =
        |name: &str| fields.get(name).and_then(|node| reader.flag(node, &format!("`{name}`")));
    let cascade = flag("cascade");
    let shadow_mode = flag("shadow_mode");
    let quota_mode = flag("quota_mode");
    let detailed_metric = flag("detailed_metric");
    let value_to_metric = flag("value_to_metric");
    let share_threshold = flag("share_threshold");
    RuleFile {
        key,
        value: fields.get("value").and_then(|node| reader.text(node, "`value`")),
        rate_limit: fields.get("rate_limit").map(|node| rate_limit(reader, node)),
        limits: fields.get("limits").map(|node| limits(reader, node)),
        cascade,
        on_outage: on_outage(reader, &fields),
        only: fields.get("only").map(|node| sharing::only(reader, node)),
        capacity: fields.get("capacity").map(|node| sharing::capacity(reader, node)),
        shadow_mode,
        quota_mode,
        detailed_metric,
        value_to_metric,
        share_threshold,
        metadata: fields.get("metadata").and_then(|node| metadata(reader, node)),
        descriptors: rules(reader, &fields),
        span: start_of(node),
    }
}

/// Free data that goes into answers.
fn metadata(reader: &mut Reader<'_>, node: &Node) -> Option<Vec<(Node, Node)>> {
    let Value::Map(entries) = &node.value else {
        let message = format!("`metadata` is a map, but this is {}", node.kind());
        reader.error(node.span.clone(), message);
        return None;
    };
    Some(entries.clone())
}

/// Where a map starts for a reader: at its first key. YAML locates a block by what comes before it.
fn start_of(node: &Node) -> Range<usize> {
    match &node.value {
        Value::Map(entries) => {
            entries.first().map_or(node.span.clone(), |(key, _)| key.span.clone())
        }
        _ => node.span.clone(),
    }
}

fn rate_limit(reader: &mut Reader<'_>, node: &Node) -> Spanned<RateLimitFile> {
    let fields = reader.fields(node, &RATE_LIMIT, ELSEWHERE);
    let requests_per_unit = fields
        .get("requests_per_unit")
        .and_then(|node| reader.number(node, "`requests_per_unit`", u64::from(u32::MAX)));
    let unlimited = fields.get("unlimited").and_then(|node| reader.flag(node, "`unlimited`"));
    if !unlimited.as_ref().is_some_and(|unlimited| unlimited.value) {
        missing(reader, node, &fields, &["unit", "requests_per_unit"]);
    }
    let name = fields.get("name").and_then(|node| reader.text(node, "`name`"));
    // The reference takes an empty name for none, and one of spaces for a name.
    let blank = |name: &&Spanned<String>| !name.value.is_empty() && name.value.trim().is_empty();
    if let Some(name) = name.as_ref().filter(blank) {
        let message = "this name is only white space: nobody can read it";
        reader.note(Severity::Warning, name.span.clone(), message);
    }
    let value = RateLimitFile {
        requests_per_unit,
        unit: fields.get("unit").and_then(|node| reader.text(node, "`unit`")),
        unlimited,
        name,
        replaces: fields.get("replaces").map(|node| replaces(reader, node)),
    };
    Spanned { value, span: start_of(node) }
}

/// Notes the keys that a map must hold and does not.
fn missing(reader: &mut Reader<'_>, node: &Node, fields: &Fields<'_>, keys: &[&str]) {
    for key in keys.iter().filter(|key| fields.get(key).is_none()) {
        reader.error(start_of(node), format!("`{key}` is missing"));
    }
}

fn replaces(reader: &mut Reader<'_>, node: &Node) -> Vec<ReplacesFile> {
    let items = reader.list(node, "`replaces`");
    let entry = |node: &Node| {
        let fields = reader.fields(node, &REPLACES, ELSEWHERE);
        let name = fields.get("name").and_then(|node| reader.text(node, "`name`"));
        ReplacesFile { name, span: start_of(node) }
    };
    items.iter().map(entry).collect()
}

fn limits(reader: &mut Reader<'_>, node: &Node) -> Spanned<Vec<LimitFile>> {
    let items = reader.list(node, "`limits`");
    let value = items.iter().map(|node| limit(reader, node)).collect();
    Spanned { value, span: node.span.clone() }
}

fn limit(reader: &mut Reader<'_>, node: &Node) -> LimitFile {
    if node.scalar().is_some() {
        let map = LimitMapFile { rate: reader.text(node, "a limit"), ..LimitMapFile::default() };
        return LimitFile { map, span: node.span.clone() };
    }
    let fields = reader.fields(node, &LIMIT, ELSEWHERE);
    if matches!(node.value, Value::Map(_)) && fields.get("by_tier").is_none() {
        missing(reader, node, &fields, &["rate"]);
    }
    let by_tier = |reader: &mut Reader<'_>, node: &Node| {
        if matches!(&node.value, Value::Map(entries) if entries.is_empty()) {
            reader.error(node.span.clone(), "`by_tier` is empty; write only a `rate`");
        }
        Spanned { value: sharing::texts(reader, node, "`by_tier`"), span: start_of(node) }
    };
    let map = LimitMapFile {
        rate: fields.get("rate").and_then(|node| reader.text(node, "`rate`")),
        by_tier: fields.get("by_tier").map(|node| by_tier(reader, node)),
        name: fields.get("name").and_then(|node| name(reader, node)),
        algorithm: algorithm(reader, &fields),
        burst: fields.get("burst").and_then(|node| reader.number(node, "`burst`", AMOUNT_MAX)),
        mode: mode(reader, &fields),
        shadow: fields.get("shadow").and_then(|node| reader.flag(node, "`shadow`")),
        on_outage: on_outage(reader, &fields),
        cost: fields.get("cost").and_then(|node| reader.text(node, "`cost`")),
        overdraft: overdraft(reader, &fields),
        wait: fields.get("wait").map(|node| sharing::wait(reader, node)),
        lease: lease(reader, &fields),
    };
    LimitFile { map, span: start_of(node) }
}

/// The name of a limit, by which people and metrics call it.
fn name(reader: &mut Reader<'_>, node: &Node) -> Option<Spanned<String>> {
    let name = reader.text(node, "`name`")?;
    if name.value.trim().is_empty() {
        let message = "the name is empty; leave `name` out, or write one that can be read";
        reader.error(name.span.clone(), message);
    }
    Some(name)
}

fn algorithm(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Spanned<AlgorithmFile>> {
    reader.word(fields.get("algorithm")?, "`algorithm`", AlgorithmFile::WORDS)
}

fn mode(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Spanned<ModeFile>> {
    reader.word(fields.get("mode")?, "`mode`", ModeFile::WORDS)
}

fn overdraft(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Spanned<OverdraftFile>> {
    reader.word(fields.get("overdraft")?, "`overdraft`", OverdraftFile::WORDS)
}

fn lease(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Spanned<LeaseFile>> {
    reader.word(fields.get("lease")?, "`lease`", LeaseFile::WORDS)
}

fn on_outage(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Spanned<OutageFile>> {
    reader.word(fields.get("on_outage")?, "`on_outage`", OutageFile::WORDS)
}

fn answer(reader: &mut Reader<'_>, node: &Node) -> AnswerFile {
    let fields = reader.fields(node, &ANSWER, ELSEWHERE);
    let sets = fields.get("headers").map(|node| reader.list(node, "`headers`").iter());
    let headers = sets.map(|nodes| {
        nodes
            .filter_map(|node| reader.word(node, "a set of headers", HeaderSetFile::WORDS))
            .collect()
    });
    let limits = fields.get("limits");
    let body = fields.get("body");
    let metadata = fields.get("metadata");
    AnswerFile {
        headers,
        limits: limits.and_then(|node| reader.word(node, "`limits`", AnswerLimitsFile::WORDS)),
        body: body.and_then(|node| reader.word(node, "`body`", AnswerBodyFile::WORDS)),
        metadata: metadata
            .and_then(|node| reader.word(node, "`metadata`", AnswerMetadataFile::WORDS)),
        request_headers: headers_map(reader, fields.get("request_headers")),
        response_headers: headers_map(reader, fields.get("response_headers")),
    }
}

/// Fixed headers, by name. Envoy reads a name that starts with `:` as a part of the request line, and
/// `host` as its authority: neither may be set from here.
fn headers_map(
    reader: &mut Reader<'_>,
    node: Option<&Node>,
) -> Option<BTreeMap<String, Spanned<String>>> {
    let node = node?;
    let Value::Map(entries) = &node.value else {
        reader.error(node.span.clone(), format!("headers are a map, but this is {}", node.kind()));
        return None;
    };
    let mut headers = BTreeMap::new();
    for (key, value) in entries {
        let name = key.scalar().unwrap_or_default().to_ascii_lowercase();
        if !is_header_name(&name) {
            reader.error(key.span.clone(), format!("`{name}` is no name of a header to add"));
        } else if let Some(text) = reader.text(value, &format!("the header `{name}`"))
            && headers.insert(name.clone(), text).is_some()
        {
            reader.error(key.span.clone(), format!("the header `{name}` occurs twice"));
        }
    }
    Some(headers)
}

fn is_header_name(name: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(token) && name != "host"
}
