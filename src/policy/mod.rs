//! What the policy files say: which limits a request meets, and under which keys.
//!
//! [`compile()`] takes the texts of files and gives a [`PolicySet`], or every problem that they have. It is
//! pure; reading files and noticing their changes is the application's.

mod answer;
mod caller;
mod caller_form;
mod callers;
mod callers_read;
mod callers_schema;
mod compile;
mod explain;
mod fields;
mod key;
mod limits;
mod mode;
mod pattern;
mod problem;
mod rate;
mod read;
mod render;
mod rule;
mod schema;
mod set;
pub mod tree;
mod unit;

pub use answer::Answer;
pub use answer::AnswerMetadata;
pub use caller::Caller;
pub use caller::CallerBonus;
pub use caller::Lineage;
pub use caller::Member;
pub use caller::PARENTS_MAX;
pub use caller::Share;
pub use caller_form::BonusForm;
pub use caller_form::CallerForm;
pub use caller_form::Flaw;
pub use caller_form::NAME_LEN_MAX;
pub use caller_form::check_caller_name;
pub use callers::Callers;
pub use callers::ParentError;
pub use callers::callers_schema;
pub use callers::check_parents;
pub use callers::compile_callers;
pub use compile::CompileOptions;
pub use compile::compile;
pub use explain::Explanation;
pub use fields::nearest;
pub use key::Key;
pub use mode::Mode;
pub use problem::Problem;
pub use problem::Severity;
pub use problem::Source;
pub use rate::Window;
pub use render::render;
pub use rule::Domain;
pub use rule::OVERRIDE_LABEL;
pub use rule::OnOutage;
pub use rule::Rule;
pub use rule::RuleLimit;
pub use rule::RuleValue;
pub use rule::Walk;
pub use schema::schema;
pub use set::PolicySet;
pub use unit::Unit;
