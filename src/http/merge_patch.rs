//! JSON merge patches (RFC 7396) as bodies.

use std::marker::PhantomData;

use axum::extract::{FromRequest, Request};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::edge::Edge;
use super::extract::JsonObject;
use super::openapi::{Description, Input};
use super::problem::Problem;

/// A change of some fields of a `T`.
#[derive(Debug)]
pub struct MergePatch<T> {
    patch: Value,
    target: PhantomData<fn(T) -> T>,
}

impl<T> MergePatch<T> {
    /// The changes of an object.
    pub fn new(patch: Value) -> Self {
        Self { patch, target: PhantomData }
    }
}

impl<T: Serialize + DeserializeOwned> MergePatch<T> {
    /// `before` with the changes.
    ///
    /// # Errors
    /// If that is not a valid `T`.
    pub fn apply(&self, before: &T) -> Result<T, Problem> {
        let mut value = serde_json::to_value(before)?;
        merge(&mut value, &self.patch);
        Ok(serde_json::from_value(value)?)
    }
}

impl<T> FromRequest<Edge> for MergePatch<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, edge: &Edge) -> Result<Self, Problem> {
        let JsonObject(patch) = JsonObject::<Value>::from_request(request, edge).await?;
        Ok(Self { patch, target: PhantomData })
    }
}

impl<T: JsonSchema> Input for MergePatch<T> {
    fn describe(description: &mut Description<'_>) {
        description.merge_patch::<T>();
    }
}

/// Applies a merge patch: null removes a field, objects are merged, other values replace.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(fields) = target else { return };
    for (name, change) in changes {
        if change.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name).or_insert(Value::Null), change);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_merge_patch_does_as_the_standard_says() {
        let check = |mut target: Value, patch: Value, expected: Value| {
            merge(&mut target, &patch);
            assert_eq!(target, expected, "{patch}");
        };
        // The examples of RFC 7396, appendix A.
        check(json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"}));
        check(json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"}));
        check(json!({"a": "b"}), json!({"a": null}), json!({}));
        check(json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"}));
        check(json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"}));
        check(json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]}));
        check(
            json!({"a": {"b": "c"}}),
            json!({"a": {"b": "d", "c": null}}),
            json!({"a": {"b": "d"}}),
        );
        check(json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]}));
        check(json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"]));
        check(json!({"a": "b"}), json!(["c"]), json!(["c"]));
        check(json!({"a": "foo"}), json!(null), json!(null));
        check(json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1}));
        check(json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"}));
        check(json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}}));
    }
}
