//! The API as an OpenAPI document: made of the same table that says who may do what, and of the types
//! that are read and written.

use std::sync::LazyLock;

use axum::Json;
use axum::http::Method;
use schemars::JsonSchema;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::callers::PageBody;
use super::latencies::LatenciesBody;
use super::problem::Document;
use crate::api_token::Role;
use crate::policy::{BonusForm, CallerForm};

pub const ROOT: &str = "/v1";
pub const CALLERS: &str = "/v1/callers";
pub const CALLER: &str = "/v1/callers/{name}";
pub const BONUSES: &str = "/v1/callers/{name}/bonuses";
pub const BONUS: &str = "/v1/callers/{name}/bonuses/{id}";
pub const LATENCIES: &str = "/v1/latencies";
pub const OPENAPI: &str = "/v1/openapi.json";

/// The schema of a merge patch of a caller.
const PATCH: &str = "CallerPatch";

/// A method of a path.
#[derive(Debug)]
pub struct Operation {
    pub method: Method,
    pub path: &'static str,
    /// Who may do it, with those above.
    pub role: Role,
    id: &'static str,
    summary: &'static str,
    body: Option<&'static str>,
    /// The status of success, and what comes with it.
    answer: (u16, Option<&'static str>),
}

/// All that the API does. What is not here is not served.
pub static OPERATIONS: [Operation; 11] = [
    Operation {
        method: Method::GET,
        path: ROOT,
        role: Role::Viewer,
        id: "listOperations",
        summary: "List what the API does",
        body: None,
        answer: (200, Some("Operations")),
    },
    Operation {
        method: Method::GET,
        path: CALLERS,
        role: Role::Viewer,
        id: "listCallers",
        summary: "List callers by name, page by page",
        body: None,
        answer: (200, Some("Page")),
    },
    Operation {
        method: Method::GET,
        path: CALLER,
        role: Role::Viewer,
        id: "getCaller",
        summary: "What is known of a caller",
        body: None,
        answer: (200, Some("Caller")),
    },
    Operation {
        method: Method::PUT,
        path: CALLER,
        role: Role::Admin,
        id: "putCaller",
        summary: "Say all that is known of a caller; 201 if it is a new one",
        body: Some("Caller"),
        answer: (200, Some("Caller")),
    },
    Operation {
        method: Method::PATCH,
        path: CALLER,
        role: Role::Operator,
        id: "patchCaller",
        summary: "Change some of what is known of a caller, by a JSON merge patch (RFC 7396)",
        body: Some(PATCH),
        answer: (200, Some("Caller")),
    },
    Operation {
        method: Method::DELETE,
        path: CALLER,
        role: Role::Admin,
        id: "deleteCaller",
        summary: "Forget a caller",
        body: None,
        answer: (204, None),
    },
    Operation {
        method: Method::POST,
        path: BONUSES,
        role: Role::Operator,
        id: "giveBonus",
        summary: "Give a caller a bonus; an id is made if none is given",
        body: Some("Bonus"),
        answer: (201, Some("Bonus")),
    },
    Operation {
        method: Method::DELETE,
        path: BONUS,
        role: Role::Operator,
        id: "takeBonus",
        summary: "Take a bonus away",
        body: None,
        answer: (204, None),
    },
    Operation {
        method: Method::GET,
        path: LATENCIES,
        role: Role::Viewer,
        id: "listLatencies",
        summary: "How long those take that a choice may choose",
        body: None,
        answer: (200, Some("Latencies")),
    },
    Operation {
        method: Method::POST,
        path: LATENCIES,
        role: Role::Operator,
        id: "noteLatencies",
        summary: "Tell how long they take: all of it is noted or nothing",
        body: Some("Latencies"),
        answer: (204, None),
    },
    Operation {
        method: Method::GET,
        path: OPENAPI,
        role: Role::Viewer,
        id: "getOpenApi",
        summary: "This document",
        body: None,
        answer: (200, None),
    },
];

static DOCUMENT: LazyLock<Value> = LazyLock::new(describe);

/// The operation of a path as the router knows it.
pub fn operation(method: &Method, path: &str) -> Option<&'static Operation> {
    // The router answers HEAD as it does GET.
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    OPERATIONS.iter().find(|operation| operation.method == *method && operation.path == path)
}

/// What the API does, for whoever looks around.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Operations")]
pub struct OperationsBody {
    /// Where the OpenAPI document is, which tells all of it.
    openapi: &'static str,
    operations: Vec<OperationItem>,
}

/// A method of a path.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Operation")]
pub struct OperationItem {
    method: &'static str,
    path: &'static str,
    /// Who may do it, with those above: viewer, operator or admin.
    role: String,
    summary: &'static str,
}

/// Tells what the API does, in short.
pub async fn list() -> Json<OperationsBody> {
    let item = |operation: &'static Operation| OperationItem {
        method: operation.method.as_str(),
        path: operation.path,
        role: operation.role.to_string(),
        summary: operation.summary,
    };
    Json(OperationsBody { openapi: OPENAPI, operations: OPERATIONS.iter().map(item).collect() })
}

/// Tells the document.
pub async fn document() -> Json<&'static Value> {
    Json(&DOCUMENT)
}

fn describe() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in &OPERATIONS {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method.as_str().to_lowercase()] = operation.describe();
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tollgate",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What is known of callers: tiers, parents, overrides and bonuses.",
        },
        "security": [{ "token": [] }, {}],
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn schemas() -> Value {
    let settings = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut generator = SchemaGenerator::new(settings);
    generator.subschema_for::<CallerForm>();
    generator.subschema_for::<BonusForm>();
    generator.subschema_for::<PageBody>();
    generator.subschema_for::<LatenciesBody>();
    generator.subschema_for::<OperationsBody>();
    generator.subschema_for::<Document<'_>>();
    let mut schemas = generator.take_definitions(true);
    let patch = nullable(schemas["Caller"].clone());
    schemas.insert(PATCH.to_owned(), patch);
    Value::Object(schemas)
}

/// The schema of an object whose fields may each be null, which in a merge patch takes one away.
fn nullable(mut schema: Value) -> Value {
    let fields = schema["properties"].as_object_mut().into_iter().flatten();
    for (_, field) in fields {
        *field = json!({ "anyOf": [field.take(), { "type": "null" }] });
    }
    schema
}

impl Operation {
    fn describe(&self) -> Value {
        let mut described = json!({
            "operationId": self.id,
            "summary": self.summary,
            "description": format!("Needs the role {}.", self.role),
            "parameters": self.parameters(),
            "responses": {
                "default": { "description": "A problem", "content": content("application/problem+json", "Problem") },
            },
        });
        let (status, body) = self.answer;
        let mut answer = json!({ "description": self.summary });
        if let Some(body) = body {
            answer["content"] = content("application/json", body);
        }
        if self.method == Method::PUT {
            described["responses"]["201"] = answer.clone();
        }
        if self.method == Method::GET && self.path == CALLER {
            described["responses"]["304"] = json!({ "description": "It is as If-None-Match says" });
        }
        described["responses"][status.to_string()] = answer;
        if self.names_anything() {
            let told = "Something is wrong with the caller, such as a tier or a limit that no policy in force has";
            let content = content("application/problem+json", "Problem");
            described["responses"]["422"] = json!({ "description": told, "content": content });
        }
        if let Some(body) = self.body {
            let media_type = match self.method {
                Method::PATCH => "application/merge-patch+json",
                _ => "application/json",
            };
            let content = content(media_type, body);
            described["requestBody"] = json!({ "required": true, "content": content });
        }
        described
    }

    /// Whether it may give a caller tiers and limits by their names.
    fn names_anything(&self) -> bool {
        self.path == CALLER && self.body.is_some() || self.path == BONUSES
    }

    fn parameters(&self) -> Vec<Value> {
        let parameter = |place: &str, name: &str, kind: &str| {
            let required = place == "path";
            json!({ "in": place, "name": name, "required": required, "schema": { "type": kind } })
        };
        let mut parameters: Vec<Value> = ["name", "id"]
            .into_iter()
            .filter(|name| self.path.contains(&format!("{{{name}}}")))
            .map(|name| parameter("path", name, "string"))
            .collect();
        if self.path == CALLERS {
            parameters.push(parameter("query", "after", "string"));
            parameters.push(parameter("query", "limit", "integer"));
        }
        if self.names_anything() {
            let mut force = parameter("query", "force", "boolean");
            force["description"] =
                "Write a tier, an override or a bonus that no policy in force has".into();
            parameters.push(force);
        }
        if self.path == CALLER {
            parameters.push(parameter("header", "If-None-Match", "string"));
        }
        if self.method != Method::GET && self.path != LATENCIES {
            parameters.push(parameter("header", "If-Match", "string"));
        }
        parameters
    }
}

fn content(media_type: &str, schema: &str) -> Value {
    json!({ media_type: { "schema": { "$ref": format!("#/components/schemas/{schema}") } } })
}
