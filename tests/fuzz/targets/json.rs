//! Any bytes as HTTP bodies: a JSON request, decided on the embedded store, and the form of a caller, which Redis
//! stores too.
#![no_main]

#[path = "engine.rs"]
mod engine;

use libfuzzer_sys::fuzz_target;
use tollgate::http::answer_bytes;
use tollgate::policy::CallerForm;

use engine::{ENGINE, RUNTIME};

fuzz_target!(|bytes: &[u8]| {
    let _ = RUNTIME.block_on(answer_bytes(&ENGINE, bytes));
    if let Ok(form) = serde_json::from_slice::<CallerForm>(bytes)
        && let Ok(caller) = form.check()
    {
        // A valid form is written in this way, and read again.
        let written = serde_json::to_vec(&CallerForm::from(&caller)).expect("a form is JSON");
        let form: CallerForm = serde_json::from_slice(&written).expect("it was written as one");
        assert_eq!(form.check().as_ref(), Ok(&caller));
    }
});
