//! The book hangs together: its chapters, their links and pictures, and their code, which runs with the documentation's tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/book/src")
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What stands in the parentheses of links and pictures outside code.
fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    let mut code = false;
    for line in text.lines() {
        code ^= line.starts_with("```");
        if !code {
            links.extend(line.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_string())));
        }
    }
    links
}

/// All chapters, by the file.
fn chapters() -> Vec<(String, String)> {
    let files = fs::read_dir(root()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<String> = files.filter(|file| file.ends_with(".md") && file != "SUMMARY.md").collect();
    files.sort();
    files.into_iter().map(|file| (file.clone(), read(root().join(&file)))).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut checked = 0;
    for (file, text) in chapters() {
        for link in links(&text).into_iter().filter(|link| !link.starts_with("https://")) {
            assert!(root().join(&link).is_file(), "{file}: '{link}' leads nowhere");
            checked += 1;
        }
    }
    assert!(checked > 50, "{checked} links were found");
}

#[test]
fn the_summary_has_every_chapter_once() {
    let mut listed = links(&read(root().join("SUMMARY.md")));
    listed.sort();
    let files: Vec<String> = chapters().into_iter().map(|(file, _)| file).collect();
    assert_eq!(listed, files);
}

#[test]
fn every_picture_is_explained_in_a_chapter() {
    let used: BTreeSet<String> =
        chapters().iter().filter(|(file, _)| file != "gallery.md").flat_map(|(_, text)| links(text)).collect();
    for picture in fs::read_dir(root().join("pictures")).unwrap() {
        let name = format!("pictures/{}", picture.unwrap().file_name().into_string().unwrap());
        assert!(used.contains(&name), "no chapter shows {name}");
    }
}

#[test]
fn the_code_of_every_chapter_runs() {
    let list = read(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/book.rs"));
    let mut run = 0;
    for (file, text) in chapters() {
        let blocks: Vec<&str> = text.lines().filter(|line| line.starts_with("```") && line.len() > 3).collect();
        for block in &blocks {
            assert!(["```rust", "```sh", "```text"].contains(block), "{file}: {block}");
        }
        let rust = blocks.iter().filter(|block| **block == "```rust").count();
        assert_eq!(rust > 0, list.contains(&format!("src/{file}\"")), "{file} is in src/book.rs just if it has code");
        run += rust;
    }
    assert!(run >= 14, "{run} examples");
}

/// The numbers with a decimal point, or of three digits and more, in a piece of text.
fn numbers(text: &str) -> BTreeSet<String> {
    let parts = text.split(|c: char| !c.is_ascii_digit() && c != '.' && c != ',');
    let parts = parts.map(|part| part.trim_matches(['.', ',']));
    let parts = parts.filter(|part| part.contains('.') || part.len() > 2);
    parts.map(String::from).collect()
}

/// What stands between two phrases.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let start = text.find(from).unwrap_or_else(|| panic!("no '{from}'"));
    let length = text[start..].find(to).unwrap_or_else(|| panic!("no '{to}' after '{from}'"));
    &text[start..start + length]
}

/// Figures that were measured, and that no test can measure again, are quoted from one place each.
#[test]
fn figures_quoted_are_those_of_their_documents() {
    let choosing = read(root().join("choosing.md"));
    let auditing = read(root().join("auditing.md"));
    let document = |name: &str| numbers(&read(root().join("../..").join(name)));
    let (performance, audit) = (document("performance.md"), document("audit.md"));
    for (quoted, source, least) in [
        (between(&choosing, "From two rows of logits", "So the optimal rule"), &performance, 5),
        (between(&choosing, "| 1,&nbsp;5 |", "Standard errors"), &performance, 20),
        (between(&choosing, "six rows of", "more tokens a call"), &performance, 3),
        (between(&auditing, "**How many tokens does it take?**", "What is"), &audit, 6),
    ] {
        let quoted = numbers(quoted);
        assert!(quoted.len() >= least, "{quoted:?}");
        let missing: Vec<_> = quoted.difference(source).collect();
        assert!(missing.is_empty(), "{missing:?} are not in the document that they are quoted from");
    }
}

#[test]
fn the_references_are_those_of_the_project() {
    let all = read(root().join("../../references.md"));
    let cited: Vec<String> =
        links(&read(root().join("references.md"))).into_iter().filter(|link| link.contains("arxiv.org")).collect();
    assert!(cited.len() >= 15, "{cited:?}");
    for link in cited {
        let number = link.rsplit('/').next().unwrap();
        assert!(all.contains(&format!("arXiv {number}")), "docs/references.md has no arXiv {number}");
    }
}
