//! What the page of policies shows: the rules in force, a check of a text, and an explained request.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use tokio::task::spawn_blocking;

use super::failure::Failure;
use super::page::Page;
use super::view;
use super::view::layout::Section;
use super::visitor::{Submitted, Visitor};
use crate::engine::{Descriptor, Explanation, HitsSource, PolicyReload, Request};
use crate::http::auth::Viewer;
use crate::http::edge::Edge;
use crate::limit::Hits;
use crate::policy::{CompileOptions, Rule, Source, compile, render};

/// Rules that are shown of each domain.
const RULES_MAX: usize = 500;

/// The request to explain.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ExplainQuery {
    pub domain: String,
    /// A descriptor a line: `key=value,key=value`.
    pub descriptors: String,
}

/// The text to check.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct CheckForm {
    pub text: String,
}

/// What the page shows.
#[derive(Debug, Default)]
pub struct PoliciesPage {
    pub hash: String,
    /// The last reload has failed, and earlier policies are in force.
    pub is_rejected: bool,
    pub domains: Vec<DomainRules>,
    /// The last ones, the newest first.
    pub reloads: Vec<PolicyReload>,
    pub now_ms: u64,
    pub query: ExplainQuery,
    /// The explained request, or why it can't be explained.
    pub explanation: Option<Result<Explanation, String>>,
    /// A checked text, and its problems; no problems if it is valid.
    pub checked: Option<(String, String)>,
}

/// The rules of a domain.
#[derive(Debug)]
pub struct DomainRules {
    pub name: String,
    pub tiers: Vec<String>,
    pub rules: Vec<RuleRow>,
    /// Rules that are not shown.
    pub more: usize,
}

/// A rule with its limits.
#[derive(Debug)]
pub struct RuleRow {
    pub path: String,
    /// Name and amount; the amount of each tier if they differ.
    pub limits: Vec<(String, String)>,
    pub unlimited: bool,
    pub location: String,
}

/// Shows the page.
pub async fn show(
    visitor: Visitor,
    State(edge): State<Edge>,
    Query(query): Query<ExplainQuery>,
) -> Result<Page, Failure> {
    visitor.authorized::<Viewer>()?;
    let mut page = PoliciesPage::read(&edge);
    if !query.domain.is_empty() {
        page.explanation = Some(explain(&edge, &query).await);
    }
    page.query = query;
    Ok(shown(&visitor, &page))
}

/// Checks a text as `tollgate check` does.
pub async fn check(
    State(edge): State<Edge>,
    Submitted { visitor, form }: Submitted<CheckForm>,
) -> Result<Page, Failure> {
    visitor.authorized::<Viewer>()?;
    let text = form.text.clone();
    let problems = spawn_blocking(move || problems(text)).await.map_err(|error| {
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the check failed: {error}"))
    })?;
    let page = PoliciesPage { checked: Some((form.text, problems)), ..PoliciesPage::read(&edge) };
    Ok(shown(&visitor, &page))
}

fn shown(visitor: &Visitor, page: &PoliciesPage) -> Page {
    let body = view::policies::page(page, &visitor.form_token);
    visitor.page(Section::Policies, "Policies", &body)
}

/// The problems and warnings of a text; empty if it has none.
fn problems(text: String) -> String {
    let source = Source { path: "policy.yaml".to_owned(), text };
    let sources = [source];
    match compile(&sources, CompileOptions::default()) {
        Ok(policies) => render(policies.warnings(), &sources),
        Err(problems) => render(&problems, &sources),
    }
}

/// Explains a request as `tollgate explain` does, under the policies in force.
async fn explain(edge: &Edge, query: &ExplainQuery) -> Result<Explanation, String> {
    let lines = query.descriptors.lines().filter(|line| !line.trim().is_empty());
    let descriptors: Result<Vec<_>, String> = lines.map(entries).collect();
    let descriptor = |entries| Descriptor {
        entries,
        hits: Hits::Spend(1),
        hits_source: HitsSource::Request,
        limit: None,
    };
    let descriptors = descriptors?.into_iter().map(descriptor).collect();
    let request =
        Request::try_new(&query.domain, descriptors).map_err(|error| error.to_string())?;
    // Boxed, because it is large.
    let explanation = Box::pin(edge.engine.explain(&request)).await;
    explanation.ok_or_else(|| format!("no policy has the domain `{}`", query.domain))
}

fn entries(line: &str) -> Result<Vec<(&str, &str)>, String> {
    let entry = |text: &str| format!("`{text}` is not `key=value`");
    let texts = line.trim().split(',');
    texts.map(|text| text.split_once('=').ok_or_else(|| entry(text))).collect()
}

impl PoliciesPage {
    fn read(edge: &Edge) -> Self {
        let policies = edge.engine.policies();
        let domains = policies.domains().into_iter().map(|domain| {
            let mut rules = Vec::new();
            collect(domain.rules(), &mut rules, &domain.classes.tiers);
            let more = rules.len().saturating_sub(RULES_MAX);
            rules.truncate(RULES_MAX);
            let tiers = domain.classes.tiers.iter().map(|tier| (**tier).to_owned()).collect();
            DomainRules { name: domain.name.clone(), tiers, rules, more }
        });
        Self {
            hash: policies.hash().to_owned(),
            is_rejected: edge.metrics.policy_rejected.get() == 1,
            domains: domains.collect(),
            reloads: edge.engine.reloads.list(),
            now_ms: edge.engine.now().as_ms(),
            ..Self::default()
        }
    }
}

fn collect<T: AsRef<str>>(rules: &[Rule], rows: &mut Vec<RuleRow>, tiers: &[T]) {
    for rule in rules {
        let limits = rule.limits.iter().map(|limit| {
            let amount = match limit.by_tier.is_empty() {
                true => limit.limit.to_string(),
                false => {
                    let tiers = tiers.iter().enumerate();
                    let amounts = tiers
                        .map(|(index, tier)| format!("{} {}", tier.as_ref(), limit.of_tier(index)));
                    amounts.collect::<Vec<_>>().join(", ")
                }
            };
            (limit.label.to_string(), amount)
        });
        rows.push(RuleRow {
            path: rule.path.clone(),
            limits: limits.collect(),
            unlimited: rule.unlimited,
            location: rule.location.to_string(),
        });
        collect(rule.rules(), rows, tiers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_checked_with_the_place_of_each_problem() {
        assert_eq!(
            problems("domain: d\ndescriptors: [{ key: a, limits: [1/day] }]".to_owned()),
            ""
        );
        let found = problems("domain: d\ndescriptors: [{ key: a, limits: [1/dya] }]".to_owned());
        assert!(found.contains("policy.yaml:2:") && found.contains('^'), "{found}");
    }

    #[test]
    fn descriptors_are_lines_of_entries() {
        assert_eq!(entries(" a=1,b==2 "), Ok(vec![("a", "1"), ("b", "=2")]));
        assert_eq!(entries("a"), Err("`a` is not `key=value`".to_owned()));
    }
}
