//! One setting, and the macro that declares all of a component.

/// The prefix of our environment variables.
pub const VARIABLE_PREFIX: &str = "TOLLGATE_";

// Descriptions of valid values that several settings share.
pub const BOOLEAN: &str = "true or false";
pub const DURATION: &str = "a duration up to an hour, such as 10ms, 2s or 1m";
pub const PATH: &str = "a path";
pub const PATHS: &str = "a list of paths";
pub const RATIO: &str = "a number from 0 to 1";
pub const TEXT: &str = "a text";

/// One setting. Its variable is `TOLLGATE_` and the name in capitals, its flag the name with dashes.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The name in the settings file.
    pub name: &'static str,
    /// The heading in the help.
    pub group: &'static str,
    /// A word for the value; that of a list ends with `,...`.
    pub value: &'static str,
    /// As written in a settings file; empty if there is none.
    pub default: &'static str,
    /// A description of valid values, for messages: "use ...".
    pub expected: &'static str,
    pub help: &'static str,
    /// All valid values, if they are a few fixed words.
    pub words: &'static [&'static str],
    /// Settings that it requires.
    pub needs: &'static [&'static str],
    /// Settings that it excludes.
    pub excludes: &'static [&'static str],
    /// Whether its values must not be shown.
    pub secret: bool,
}

/// The settings of one part of the process.
pub trait Component {
    /// Their declarations, in the order of the help.
    const TABLE: &'static [Setting];

    /// Parses the text of the setting `name`. False: the text is invalid, or the setting is unknown here.
    fn set(&mut self, name: &str, text: &str) -> bool;
}

/// Declares a component: for each setting a field, its texts for people, and how its value is read.
macro_rules! component {
    (
        $(#[$doc:meta])*
        pub struct $component:ident in $group:literal;
        $(
            $(#[$field_doc:meta])*
            $field:ident: $type:ty {
                name: $name:literal,
                value: $value:literal,
                default: $default:literal,
                expected: $expected:expr,
                help: $help:literal,
                read: $read:expr,
                $($key:ident: $more:expr,)*
            }
        )*
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $component {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl $crate::settings::setting::Component for $component {
            const TABLE: &'static [$crate::settings::setting::Setting] = &[
                $($crate::settings::setting::Setting {
                    name: $name,
                    value: $value,
                    default: $default,
                    expected: $expected,
                    help: $help,
                    $($key: $more,)*
                    ..$crate::settings::setting::Setting::in_group($group)
                },)*
            ];

            fn set(&mut self, name: &str, text: &str) -> bool {
                match name {
                    $($name => match ($read)(text) {
                        Some(value) => {
                            self.$field = value;
                            true
                        }
                        None => false,
                    },)*
                    _ => false,
                }
            }
        }

        impl Default for $component {
            fn default() -> Self {
                Self { $($field: ($read)($default).expect("the default is valid"),)* }
            }
        }
    };
}

pub(super) use component;

impl Setting {
    /// Defaults of a declaration.
    pub const fn in_group(group: &'static str) -> Self {
        Self {
            name: "",
            group,
            value: "",
            default: "",
            expected: "",
            help: "",
            words: &[],
            needs: &[],
            excludes: &[],
            secret: false,
        }
    }

    /// The environment variable.
    pub fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.name.to_uppercase())
    }

    /// The flag, without the leading dashes.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// Whether its value is `true` or `false`.
    pub fn is_switch(&self) -> bool {
        self.expected == BOOLEAN
    }

    /// Whether its value is a list.
    pub fn is_list(&self) -> bool {
        self.value.ends_with(",...")
    }
}
