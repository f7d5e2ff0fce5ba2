//! Any text as a policy file: it compiles, or every problem has a place in it and can be rendered.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::policy::{CompileOptions, Source, compile, render};

fuzz_target!(|text: &str| {
    let sources = [Source { path: "policy.yaml".to_owned(), text: text.to_owned() }];
    match compile(&sources, CompileOptions::default()) {
        Ok(policies) => {
            let _ = policies.describe();
            let _ = render(policies.warnings(), &sources);
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            for problem in &problems {
                assert!(problem.span.end <= text.len(), "{problem:?}");
                assert!(1 <= problem.line && 1 <= problem.column, "{problem:?}");
            }
            let _ = render(&problems, &sources);
        }
    }
});
