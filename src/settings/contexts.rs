//! Where the API is, for the commands that use it: from flags, then the environment, then a context of a file.

use std::path::{Path, PathBuf};
use std::{env, fs};

use super::api_variables::{CA_FILE, CONTEXT, CONTEXTS_FILE, TOKEN, TOKEN_FILE, URL};
use super::error::SettingsError;
use super::sources::{in_source, source, suggestion};
use super::value::Secret;
use crate::policy::yaml::{Node, Value};
use crate::policy::{Source, nearest};

const URL_DEFAULT: &str = "http://127.0.0.1:8080";

/// The fields of a context in the file.
const FIELDS: [&str; 3] = ["url", "token_file", "ca_file"];

/// Where the API is, and how to ask it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiAddress {
    /// Without a slash at its end.
    pub url: String,
    pub token: Option<Secret>,
    /// PEM certificates of the authorities to trust in place of the public ones.
    pub ca_file: Option<PathBuf>,
}

/// What is known of the address in one place.
#[derive(Clone, Debug, Default)]
pub struct AddressParts {
    pub url: Option<String>,
    pub token_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
}

impl ApiAddress {
    /// The address that flags, variables and the file of contexts give.
    ///
    /// # Errors
    /// An unknown context, an invalid file of contexts, and a token file that can't be read.
    pub fn load(flags: AddressParts, context: Option<&str>) -> Result<Self, SettingsError> {
        let variable = |name: &str| env::var(name).ok().filter(|text| !text.is_empty());
        let context = context.map(str::to_owned).or_else(|| variable(CONTEXT));
        let file = variable(CONTEXTS_FILE).map(PathBuf::from);
        let of_context = match file.clone().or_else(default_file) {
            Some(path) if file.is_some() || path.exists() => from_file(&path, context.as_deref())?,
            _ => match context {
                Some(name) => return Err(SettingsError::NoContext { name, file: String::new() }),
                None => AddressParts::default(),
            },
        };
        let of_variables = AddressParts {
            url: variable(URL),
            token_file: variable(TOKEN_FILE).map(PathBuf::from),
            ca_file: variable(CA_FILE).map(PathBuf::from),
        };
        let token_variable = variable(TOKEN).filter(|_| flags.token_file.is_none());
        let of_others = flags.or(of_variables);
        // The token of a context is for its own address.
        let of_context = match of_others.url {
            Some(_) => AddressParts { token_file: None, ..of_context },
            None => of_context,
        };
        let parts = of_others.or(of_context);
        let token = match (token_variable, parts.token_file) {
            (Some(token), _) => Some(token),
            (None, Some(path)) => Some(read_token(&path)?),
            (None, None) => None,
        };
        let url = parts.url.unwrap_or_else(|| URL_DEFAULT.to_owned());
        let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        if host.is_none_or(|host| host.trim_matches('/').is_empty()) {
            return Err(SettingsError::Url { url });
        }
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            token: token.map(Secret::from),
            ca_file: parts.ca_file,
        })
    }
}

impl AddressParts {
    fn or(self, other: Self) -> Self {
        Self {
            url: self.url.or(other.url),
            token_file: self.token_file.or(other.token_file),
            ca_file: self.ca_file.or(other.ca_file),
        }
    }
}

/// `tollgate/contexts.yaml` in the folder of the user's configuration (XDG Base Directory Specification).
fn default_file() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|text| !text.is_empty()).map(PathBuf::from);
    let folder = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")))?;
    Some(folder.join("tollgate/contexts.yaml"))
}

fn read_token(path: &Path) -> Result<String, SettingsError> {
    let unreadable = |source| SettingsError::TokenFile { path: path.to_owned(), source };
    let text = fs::read_to_string(path).map_err(unreadable)?;
    match text.trim() {
        "" => Err(SettingsError::EmptyToken { path: path.to_owned() }),
        token => Ok(token.to_owned()),
    }
}

/// The context of that name in a file, or the current one.
fn from_file(path: &Path, context: Option<&str>) -> Result<AddressParts, SettingsError> {
    let mut errors = Vec::new();
    let Some(source) = source(path, &mut errors) else {
        return Err(errors.remove(0));
    };
    read(&source, context)
}

fn read(source: &Source, context: Option<&str>) -> Result<AddressParts, SettingsError> {
    let root =
        Node::parse(&source.text).map_err(|error| in_source(source, error.span, error.message))?;
    known(source, &root, &["current", "contexts"])?;
    let name = context.or_else(|| root.get("current")?.scalar());
    let Some(name) = name else { return Ok(AddressParts::default()) };
    let Some(found) = root.get("contexts").and_then(|contexts| contexts.get(name)) else {
        return Err(SettingsError::NoContext { name: name.to_owned(), file: source.path.clone() });
    };
    known(source, found, &FIELDS)?;
    let text = |field: &str| match found.get(field) {
        None => Ok(None),
        Some(node) => match node.scalar() {
            Some(text) => Ok(Some(text.to_owned())),
            None => {
                let message = format!("{field}: {} instead of a text", node.kind());
                Err(in_source(source, node.span.clone(), message))
            }
        },
    };
    Ok(AddressParts {
        url: text("url")?,
        token_file: text("token_file")?.map(PathBuf::from),
        ca_file: text("ca_file")?.map(PathBuf::from),
    })
}

/// An error, if a node is no map or has other keys.
fn known(source: &Source, node: &Node, names: &[&str]) -> Result<(), SettingsError> {
    let Value::Map(entries) = &node.value else {
        let message = format!("{} instead of a map", node.kind());
        return Err(in_source(source, node.span.clone(), message));
    };
    for (key, _) in entries {
        let name = key.scalar().unwrap_or_default();
        if !names.contains(&name) {
            let message = format!("unknown field `{name}`{}", suggestion(nearest(name, names)));
            return Err(in_source(source, key.span.clone(), message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
current: prod
contexts:
  prod: { url: https://tollgate:8080, token_file: /etc/token }
  test: { url: http://test:8080 }
";

    fn parts(text: &str, context: Option<&str>) -> Result<AddressParts, String> {
        let source = Source { path: "contexts.yaml".to_owned(), text: text.to_owned() };
        read(&source, context).map_err(|error| error.to_string())
    }

    #[test]
    fn a_context_is_the_named_one_or_the_current_one() {
        let url = |context| parts(FILE, context).unwrap().url.unwrap();
        assert_eq!(url(None), "https://tollgate:8080");
        assert_eq!(url(Some("test")), "http://test:8080");
        assert!(parts("contexts: {}", None).unwrap().url.is_none());
    }

    #[test]
    fn what_is_wrong_with_contexts_has_its_place() {
        let check = |text: &str, context, expected: &str| {
            assert_eq!(parts(text, context).unwrap_err(), expected, "{text}");
        };
        check(FILE, Some("stage"), "error: contexts.yaml has no context `stage`");
        check(
            "contexts: { a: { ulr: x } }",
            Some("a"),
            "error: contexts.yaml:1:18: unknown field `ulr`; did you mean `url`?",
        );
        check("[]", None, "error: contexts.yaml:1:1: a list instead of a map");
        check(
            "contexts: { a: { url: [x] } }",
            Some("a"),
            "error: contexts.yaml:1:23: url: a list instead of a text",
        );
    }
}
