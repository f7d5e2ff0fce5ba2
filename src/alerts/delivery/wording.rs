//! The texts of a notification that templates have made.

/// What takes the place of the standard texts; None: nothing does.
#[derive(Debug, Default)]
pub struct Wording {
    /// One line.
    pub title: Option<String>,
    pub text: Option<String>,
}
