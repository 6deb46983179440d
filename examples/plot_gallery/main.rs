//! Draws every picture of the book, and the page that shows them all.
//!
//! `cargo run --example plot_gallery` draws them into `docs/book/src`; with `-- --check` it draws them in memory, compares
//! them byte by byte with what is there, and fails where they differ.

mod beyond;
mod canvas;
mod charts;
mod classes;
mod network;
mod running;
mod tables;
mod triangle;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A picture: its name, what it shows in a line, the chapter that explains it, and what draws it.
struct Entry {
    name: &'static str,
    shows: &'static str,
    chapter: &'static str,
    draw: fn() -> Result<String, Box<dyn Error>>,
}

const fn entry(
    name: &'static str,
    chapter: &'static str,
    shows: &'static str,
    draw: fn() -> Result<String, Box<dyn Error>>,
) -> Entry {
    Entry { name, shows, chapter, draw }
}

/// In the order of the book.
const PICTURES: [Entry; 25] = [
    entry("layout", "introduction", "Two drafts dropped on the line: the larger label is selected.", running::layout),
    entry("masses", "introduction", "How often each token is selected and how often it is wanted.", running::masses),
    entry("couplings", "coupling", "Two couplings of the same laws: independent, and maximal.", tables::couplings),
    entry("maximal", "maximal", "One draft: kept, rejected, and missing.", running::maximal),
    entry("transport", "transport", "The best coupling of two drafts with the output.", tables::transport),
    entry("polytope", "transport", "What can be accepted of two tokens.", triangle::polytope),
    entry("rho", "kseq", "The two sides of k-SEQ's equation.", charts::rho),
    entry("guarantee", "kseq", "What k-SEQ is sure to attain of the optimum, and what it attains.", charts::guarantee),
    entry("acceptance", "kseq", "Every rule on the running example as drafts are added.", charts::acceptance),
    entry("min-cut", "cut", "The narrowest cut between drafts and target.", network::min_cut),
    entry("majorant", "cut", "What is lost is the height above the diagonal.", charts::majorant),
    entry("reachable", "labels", "The laws that a selection can have.", triangle::reachable),
    entry("window", "labels", "A window slides until it holds the right mass.", charts::window),
    entry("gluing", "windows", "Windows are cut out one after the other.", running::gluing),
    entry("ratio-classes", "classes", "Every token is a mixture of two ratios.", classes::ratio_classes),
    entry("class-loss", "classes", "What classes cost on recorded scores.", classes::loss),
    entry("block", "paths", "What limits how often a path of two tokens is kept.", running::block),
    entry("tree", "paths", "A tree of two drafted paths, and how far the winner is followed.", network::tree),
    entry("nested", "paths", "Regions inside regions: the path with the largest label wins.", running::nested),
    entry("spread", "paths", "The same cut with labels close together, and spread out.", running::spread),
    entry("accepted-length", "paths", "Drafted tokens kept by every verifier.", charts::accepted_length),
    entry("recorded", "choosing", "Every rule on the scores of a small pair of models.", charts::recorded),
    entry(
        "evidence",
        "auditing",
        "The wealth of a bet against an honest engine and one with a mistake.",
        beyond::evidence,
    ),
    entry("least-entropy", "beyond", "A coupling of least entropy beside the maximal one.", beyond::least_entropy),
    entry("rate", "beyond", "Information through a code of limited entropy.", beyond::rate),
];

/// The page that shows all pictures, each with the title of the chapter that explains it.
fn gallery(book: &Path) -> Result<String, Box<dyn Error>> {
    let mut page = "# All pictures\n\nDrawn by `cargo run --example plot_gallery`, and so is this page.\n".to_string();
    for Entry { name, shows, chapter, .. } in PICTURES {
        let file = book.join(chapter).with_extension("md");
        let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        let title = text.lines().next().unwrap_or_default().trim_start_matches("# ");
        page += &format!("\n**{shows}** ([{title}]({chapter}.md))\n\n![{shows}](pictures/{name}.svg)\n");
    }
    Ok(page)
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let check = match &std::env::args().skip(1).collect::<Vec<_>>()[..] {
        [] => false,
        [check] if check == "--check" => true,
        arguments => return Err(format!("{arguments:?}: the only argument there is is --check").into()),
    };
    let book = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/book/src");
    let mut files = vec![(PathBuf::from("gallery.md"), gallery(&book)?)];
    for Entry { name, draw, .. } in PICTURES {
        let svg = draw().map_err(|error| format!("{name}: {error}"))?;
        files.push((Path::new("pictures").join(name).with_extension("svg"), svg));
    }
    let mut stale = Vec::new();
    for (file, text) in &files {
        if !check {
            fs::create_dir_all(book.join("pictures"))?;
            fs::write(book.join(file), text)?;
        } else if fs::read_to_string(book.join(file)).ok().as_ref() != Some(text) {
            stale.push(file.display().to_string());
        }
    }
    // A picture that nothing draws any more.
    let folder = book.join("pictures");
    for file in fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))? {
        let file = Path::new("pictures").join(file?.file_name());
        if !files.iter().any(|(drawn, _)| *drawn == file) {
            stale.push(format!("{} (nothing draws it)", file.display()));
        }
    }
    if stale.is_empty() {
        println!("{} pictures {}", PICTURES.len(), if check { "are up to date" } else { "drawn" });
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("not up to date: {}\ndraw them again: cargo run --example plot_gallery", stale.join(", "));
    Ok(ExitCode::FAILURE)
}
