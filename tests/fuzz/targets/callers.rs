//! Any text as a caller file: it is valid, or every problem has a place in it and can be rendered.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::policy::{Source, compile_callers, render};

fuzz_target!(|text: &str| {
    let sources = [Source { path: "callers.yaml".to_owned(), text: text.to_owned() }];
    if let Err(problems) = compile_callers(&sources) {
        assert!(!problems.is_empty());
        for problem in &problems {
            assert!(problem.span.end <= text.len(), "{problem:?}");
        }
        let _ = render(&problems, &sources);
    }
});
