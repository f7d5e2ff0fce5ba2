//! The operations of the API, each registered by one typed call, and the OpenAPI document derived from them.
//!
//! The types of a handler describe its operation: each extractor adds what it reads, and the answer adds its statuses
//! and bodies. The first extractor is a [`Guard`], so a handler without a role does not compile. What is left, mostly a problem of
//! one operation alone, is beside its call.
//!
//! Builds with debug assertions answer 500 in place of a status that the operation doesn't describe, so tests find each that was
//! forgotten.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::edge::Edge;
use super::problem::{Document, Problem};
use crate::api_token::Role;

/// When 400 is the answer.
const INVALID: &str = "The path, the query or the body is invalid";

/// An operation of the API: a method of a path.
#[derive(Debug)]
pub struct Operation {
    pub method: Method,
    pub path: &'static str,
    /// The least role that is required.
    pub role: Role,
    pub summary: &'static str,
    /// Its handler.
    pub route: MethodRouter<Edge>,
    id: &'static str,
    describe: fn(&mut Description<'_>),
    /// Statuses that its types don't describe.
    problems: Vec<StatusText>,
}

/// A status of a problem, and when it is the answer.
pub type StatusText = (u16, &'static str);

/// The problem of an operation on the directory of callers.
pub const NO_CALLER: StatusText =
    (404, "There is no directory of callers, or it has no such caller");

/// The problem of an operation that draws a random id.
pub const NO_RANDOMNESS: StatusText = (500, "The system has no randomness");

/// The first extractor of each handler: it authorizes the request.
pub trait Guard {
    /// The least role that is required.
    const ROLE: Role;

    /// Adds the inputs of the guard.
    fn describe(_: &mut Description<'_>) {}
}

/// An extractor that describes its input.
pub trait Input {
    /// Adds it to the operation.
    fn describe(description: &mut Description<'_>);
}

/// An answer that describes its statuses and bodies.
pub trait Output {
    /// Adds them to the operation.
    fn describe(description: &mut Description<'_>);
}

/// A handler whose types describe an operation: `T`, its extractors, and `O`, its answer.
pub trait Described<T, O>: Handler<T, Edge> {
    /// The least role that is required.
    const ROLE: Role;

    /// Adds the inputs and answers of the types.
    fn describe(description: &mut Description<'_>);
}

macro_rules! described {
    ($($input:ident),*) => {
        impl<F, Fut, O, M, G, $($input),*> Described<(M, G, $($input,)*), O> for F
        where
            F: Handler<(M, G, $($input,)*), Edge> + FnOnce(G, $($input),*) -> Fut,
            Fut: Future<Output = O>,
            G: Guard,
            $($input: Input,)*
            O: Output,
        {
            const ROLE: Role = G::ROLE;

            fn describe(description: &mut Description<'_>) {
                G::describe(description);
                $($input::describe(description);)*
                O::describe(description);
            }
        }
    };
}

described!();
described!(I1);
described!(I1, I2);
described!(I1, I2, I3);
described!(I1, I2, I3, I4);

macro_rules! methods {
    ($($name:ident $method:ident)*) => {$(
        #[doc = concat!("An operation: ", stringify!($method), " of `path`.")]
        pub fn $name<T: 'static, O, H: Described<T, O>>(
            path: &'static str,
            id: &'static str,
            summary: &'static str,
            handler: H,
        ) -> Operation {
            Operation {
                method: Method::$method,
                path,
                role: H::ROLE,
                summary,
                route: on(MethodFilter::$method, handler),
                id,
                describe: H::describe,
                problems: Vec::new(),
            }
        }
    )*};
}

methods! { get GET put PUT post POST patch PATCH delete DELETE }

/// The description of an operation, while the types of its handler add to it.
#[derive(Debug)]
pub struct Description<'a> {
    schemas: &'a mut SchemaGenerator,
    summary: &'static str,
    parameters: Vec<Value>,
    body: Option<Value>,
    responses: Map<String, Value>,
}

impl Description<'_> {
    /// Adds a header of the request.
    pub fn header(&mut self, name: &str, description: &str) {
        self.parameters.push(json!({
            "in": "header",
            "name": name,
            "required": false,
            "description": description,
            "schema": { "type": "string" },
        }));
    }

    /// Adds the fields of `T` as parameters of the query.
    pub fn query<T: JsonSchema>(&mut self) {
        let mut schema = T::json_schema(self.schemas).to_value();
        let required = schema["required"].take();
        let fields = schema["properties"].as_object_mut().into_iter().flatten();
        for (name, field) in fields {
            let is_required =
                required.as_array().into_iter().flatten().any(|required| required == name);
            let mut parameter = json!({ "in": "query", "name": name, "required": is_required });
            if let Some(text) = field.as_object_mut().and_then(|field| field.remove("description"))
            {
                parameter["description"] = text;
            }
            parameter["schema"] = field.take();
            self.parameters.push(parameter);
        }
        self.usual_problem("400", INVALID);
    }

    /// Adds a body of JSON.
    pub fn body<T: JsonSchema>(&mut self) {
        self.optional_body::<T>();
        if let Some(body) = &mut self.body {
            body["required"] = true.into();
        }
    }

    /// Adds a JSON body that may be left out.
    pub fn optional_body<T: JsonSchema>(&mut self) {
        let content = json!({ "application/json": { "schema": self.schema::<T>() } });
        self.body = Some(json!({ "required": false, "content": content }));
        self.body_problems();
    }

    fn body_problems(&mut self) {
        self.usual_problem("400", INVALID);
        self.usual_problem("413", "The body is too large");
    }

    /// Adds a JSON merge patch of a `T` as the body: each field may be null, which removes it.
    pub fn merge_patch<T: JsonSchema>(&mut self) {
        self.schemas.subschema_for::<T>();
        let mut patch = self.schemas.definitions()[&*T::schema_name()].clone();
        for (_, field) in patch["properties"].as_object_mut().into_iter().flatten() {
            *field = json!({ "anyOf": [field.take(), { "type": "null" }] });
        }
        let name = format!("{}Patch", T::schema_name());
        let schema = json!({ "$ref": format!("#/components/schemas/{name}") });
        self.schemas.definitions_mut().insert(name, patch);
        let content = json!({ "application/merge-patch+json": { "schema": schema } });
        self.body = Some(json!({ "required": true, "content": content }));
        self.body_problems();
    }

    /// Adds an answer with a JSON body. Fields may be added later.
    pub fn answer<T: JsonSchema>(&mut self, status: u16) -> &mut Value {
        let schema = self.schema::<T>();
        let answer = self.empty_answer(status, "");
        answer["content"] = json!({ "application/json": { "schema": schema } });
        answer
    }

    /// Adds an answer without a body. The default description is the summary.
    pub fn empty_answer(&mut self, status: u16, description: &str) -> &mut Value {
        let description = if description.is_empty() { self.summary } else { description };
        let status = status.to_string();
        self.responses.insert(status.clone(), json!({ "description": description }));
        &mut self.responses[&status]
    }

    /// Adds the problem of an input, unless the operation has another one with this status.
    pub fn usual_problem(&mut self, status: &str, description: &str) {
        if !self.responses.contains_key(status) {
            self.problem(status, description);
        }
    }

    /// Adds a problem.
    pub fn problem(&mut self, status: &str, description: &str) {
        let schema = self.schema::<Document<'static>>();
        let content = json!({ "application/problem+json": { "schema": schema } });
        let answer = json!({ "description": description, "content": content });
        self.responses.insert(status.to_owned(), answer);
    }

    /// For any type, an empty schema becomes an object: not all tools support `true`.
    fn schema<T: JsonSchema>(&mut self) -> Value {
        let mut schema = self.schemas.subschema_for::<T>();
        schema.ensure_object();
        schema.to_value()
    }
}

impl Operation {
    /// The same operation with problems that its types don't describe.
    pub fn or(mut self, problems: impl IntoIterator<Item = StatusText>) -> Self {
        self.problems.extend(problems);
        self
    }

    /// Its handler. With debug assertions, a status that is not described becomes 500.
    pub fn checked_route(self) -> MethodRouter<Edge> {
        if !cfg!(debug_assertions) {
            return self.route;
        }
        let described = self.describe(&mut generator());
        let responses = described["responses"].as_object();
        let statuses = responses.into_iter().flat_map(Map::keys).filter_map(|key| key.parse().ok());
        let described: Arc<BTreeSet<u16>> = Arc::new(statuses.collect());
        self.route.route_layer(from_fn_with_state(described, only_described))
    }

    fn describe(&self, schemas: &mut SchemaGenerator) -> Value {
        let mut description = Description {
            schemas,
            summary: self.summary,
            parameters: path_parameters(self.path),
            body: None,
            responses: Map::new(),
        };
        description.problem("401", "The bearer token is missing or unknown");
        description
            .problem("403", "The role of the token is insufficient (INSUFFICIENT_PERMISSIONS)");
        description.problem("408", "The request took too long");
        if self.path.contains('{') {
            description.problem("400", INVALID);
        }
        (self.describe)(&mut description);
        for (status, text) in &self.problems {
            description.problem(&status.to_string(), text);
        }
        let Description { parameters, body, responses, .. } = description;
        let mut described = json!({
            "operationId": self.id,
            "summary": self.summary,
            "description": format!("Requires the role {}.", self.role),
            "security": [{ "token": [self.role.to_string()] }, {}],
            "parameters": parameters,
            "responses": responses,
        });
        if let Some(body) = body {
            described["requestBody"] = body;
        }
        described
    }
}

/// Answers 500 in place of a status that an operation doesn't describe.
async fn only_described(
    State(described): State<Arc<BTreeSet<u16>>>,
    request: Request,
    next: Next,
) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    if described.contains(&status.as_u16()) {
        return response;
    }
    let detail = format!("the OpenAPI document does not describe the answer {status}");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail).into_response()
}

fn generator() -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into());
    SchemaGenerator::new(settings)
}

/// The OpenAPI document of `operations`.
pub fn document(operations: &[Operation]) -> Value {
    let mut schemas = generator();
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method.as_str().to_lowercase()] = operation.describe(&mut schemas);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tollgate",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Callers (tiers, parents, overrides and bonuses), their quotas, gifts and ledgers, the latencies of providers, usage, and explanations of refusals.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas.take_definitions(true),
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

/// The parameters in the braces of a path.
fn path_parameters(path: &str) -> Vec<Value> {
    let names = path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let parameter = |name: &str| json!({ "in": "path", "name": name, "required": true, "schema": { "type": "string" } });
    names.map(parameter).collect()
}

impl<O: Output> Output for Result<O, Problem> {
    fn describe(description: &mut Description<'_>) {
        O::describe(description);
    }
}

impl<T: JsonSchema> Output for Json<T> {
    fn describe(description: &mut Description<'_>) {
        description.answer::<T>(200);
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_status_that_is_not_described_is_500() {
        let router = Router::new()
            .route("/described", get(async || StatusCode::NOT_FOUND))
            .route("/forgotten", get(async || StatusCode::CONFLICT))
            .route_layer(from_fn_with_state(Arc::new(BTreeSet::from([404])), only_described));
        for (path, expected) in [("/described", 404), ("/forgotten", 500)] {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status().as_u16(), expected, "{path}");
        }
    }
}
