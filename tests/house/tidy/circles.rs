//! No cycles of files: if a file uses another one, even indirectly, that one does not use it.
//!
//! Uses are the `use` lines in `src/` before a file's tests. A path is resolved to the file of its module, and a
//! re-exported name to the file that defines it; the re-export itself is not a use.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

type Module = Vec<String>;

/// A file of `src/`.
struct File {
    path: String,
    module: Module,
    /// Every path in a `use` line, and whether the line re-exports it.
    uses: Vec<(Module, bool)>,
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let files = files();
    let graph = graph(&files);
    let mut problems = Vec::new();
    let reach = |graph: &BTreeMap<&str, BTreeSet<&str>>, from: &str, to: &str| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from.to_owned()]);
        while let Some(file) = open.pop() {
            let uses = graph.get(file.as_str()).into_iter().flatten();
            open.extend(
                uses.filter(|used| seen.insert(used.to_string())).map(|used| used.to_string()),
            );
        }
        seen.contains(to)
    };
    for (user, uses) in &graph {
        for used in uses.iter().filter(|used| reach(&graph, used, user)) {
            problems
                .push(format!("{user} uses {used}, which uses it too, directly or through others"));
        }
    }
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn parts_of_policy_use_only_those_below_them() {
    let files = files();
    let part = |path: &str| {
        let (first, _) = path.strip_prefix("policy/")?.split_once(['/', '.'])?;
        (first != "mod").then(|| first.to_owned())
    };
    let rank = |part: &str| super::POLICY_PARTS.iter().position(|row| row.contains(&part));
    let mut problems = Vec::new();
    for (user, uses) in graph(&files) {
        let Some(own) = part(user) else { continue };
        if rank(&own).is_none() {
            problems.push(format!("{user}: `{own}` is no part of POLICY_PARTS"));
        }
        for used in uses {
            let is_below = part(used).is_none_or(|other| other == own || rank(&other) < rank(&own));
            if !is_below {
                problems.push(format!("{user} must not use {used}"));
            }
        }
    }
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn use_lines_are_read_as_the_compiler_does() {
    let check = |line: &str, expected: &[&str]| {
        let paths: Vec<String> = uses_of(line).iter().map(|(path, _)| path.join("::")).collect();
        assert_eq!(paths, expected, "{line}");
    };
    check("use crate::policy::Rule;", &["crate::policy::Rule"]);
    check("pub use self::a::B as C;", &["self::a::B"]);
    check("use a::{self, b::{C, D}, E};", &["a", "a::b::C", "a::b::D", "a::E"]);
    check("use a::{b::{C, D}};", &["a::b::C", "a::b::D"]);
    check("use a::{\n    B,\n    C,\n};\nlet user = 1;", &["a::B", "a::C"]);
}

fn files() -> Vec<File> {
    let read = |path: &std::path::PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let path = path.strip_prefix("src").unwrap().display().to_string();
        let mut module: Module =
            path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        if ["mod", "lib", "main"].contains(&module.last().unwrap().as_str()) {
            module.pop();
        }
        File { uses: uses_of(code), module, path }
    };
    let paths = super::rust_files(Path::new("src"));
    paths.iter().filter(|path| !path.ends_with("main.rs")).map(read).collect()
}

/// The paths of the `use` lines of a file, and whether each is a re-export.
fn uses_of(code: &str) -> Vec<(Module, bool)> {
    let mut uses = Vec::new();
    for (start, _) in code.match_indices("use ") {
        let before = code[..start].rsplit('\n').next().unwrap();
        let is_public = before.starts_with("pub");
        if !before.is_empty() && !is_public {
            continue;
        }
        let Some((tree, _)) = code[start + 4..].split_once(';') else { continue };
        let tree: String = tree.split_whitespace().collect::<Vec<_>>().join(" ");
        uses.extend(leaves(&tree).into_iter().map(|path| (path, is_public)));
    }
    uses
}

/// Each path of a tree of a `use` line.
fn leaves(tree: &str) -> Vec<Module> {
    let names = |path: &str| {
        let path = path.split(" as ").next().unwrap();
        path.split("::").map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
    };
    let Some((prefix, group)) = tree.split_once('{') else { return vec![names(tree)] };
    let prefix: Module = names(prefix);
    let group = group.trim_end().strip_suffix('}').unwrap_or(group);
    let mut paths = Vec::new();
    let (mut depth, mut item) = (0, String::new());
    for character in group.chars().chain([',']) {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if character == ',' && depth == 0 {
            let nested = leaves(item.trim()).into_iter().filter(|path| !path.is_empty());
            paths.extend(nested.map(|path| {
                let rest = if path == ["self"] { Vec::new() } else { path };
                prefix.iter().cloned().chain(rest).collect()
            }));
            item.clear();
        } else {
            item.push(character);
        }
    }
    paths
}

/// The files that each file uses.
fn graph(files: &[File]) -> BTreeMap<&str, BTreeSet<&str>> {
    let modules: BTreeMap<&[String], &File> =
        files.iter().map(|file| (&*file.module, file)).collect();
    let mut graph: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for file in files {
        for (path, is_public) in &file.uses {
            let used = absolute(file, path, &modules).map(|path| owner(&path, &modules, 0));
            if let Some(used) = used.filter(|used| used.path != file.path && !is_public) {
                graph.entry(&file.path).or_default().insert(&used.path);
            }
        }
    }
    graph
}

/// A path of `file` from the root of the crate, unless it is external.
fn absolute(file: &File, path: &[String], modules: &BTreeMap<&[String], &File>) -> Option<Module> {
    let mut base = file.module.clone();
    let mut rest = path;
    match rest[0].as_str() {
        "crate" => base.clear(),
        "self" => {}
        "super" => {
            while let Some(("super", more)) = rest.split_first().map(|(name, more)| (&**name, more))
            {
                base.pop();
                rest = more;
            }
            return Some([base, rest.to_vec()].concat());
        }
        first => {
            base.push(first.to_owned());
            return modules.contains_key(&*base).then(|| [base, rest[1..].to_vec()].concat());
        }
    }
    Some([base, rest[1..].to_vec()].concat())
}

/// The file that defines the path: that of the longest module in it, or of the re-exported item.
fn owner<'a>(path: &[String], modules: &BTreeMap<&[String], &'a File>, depth: usize) -> &'a File {
    let len = (0..=path.len()).rev().find(|len| modules.contains_key(&path[..*len])).unwrap();
    let file = modules[&path[..len]];
    let Some(name) = path.get(len).filter(|_| depth < 8) else { return file };
    let exported =
        file.uses.iter().find(|(used, is_public)| *is_public && used.last() == Some(name));
    match exported.and_then(|(used, _)| absolute(file, used, modules)) {
        Some(used) => owner(&[used, path[len + 1..].to_vec()].concat(), modules, depth + 1),
        None => file,
    }
}
