//! What is printed, and files that appear whole or not at all.

use std::io::{self, ErrorKind, Write};
use std::path::Path;

use anyhow::Context;
use comfy_table::{Cell, CellAlignment, LineStyle, Table, TableStyle};
use draftpick::picture::Image;

/// Prints a finished answer. A reader that went away (`draftpick … | head`) is no error.
pub fn print(text: &str) -> anyhow::Result<()> {
    let written = io::stdout().write_all(text.as_bytes()).and_then(|()| flush());
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// The format of the file that `--plot` names.
pub fn image(path: Option<&Path>) -> anyhow::Result<Option<Image>> {
    path.map(Image::from_path).transpose().context("--plot")
}

/// Flushes standard output.
pub fn flush() -> io::Result<()> {
    io::stdout().flush()
}

/// A value as indented JSON.
pub fn json(value: &impl serde::Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// Has `write` make a file beside `path`, then gives it that name.
pub fn write_file(path: &Path, write: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let name = path.file_name().with_context(|| format!("'{}' is not a file name", path.display()))?;
    // The extension stays last: the image encoder goes by it.
    let partial = path.with_file_name(format!(".{}.partial.{}", std::process::id(), name.to_string_lossy()));
    let written = write(&partial).and_then(|()| Ok(std::fs::rename(&partial, path)?));
    if written.is_err() {
        // The first error is the one to report.
        let _ = std::fs::remove_file(&partial);
    }
    written.with_context(|| format!("cannot write '{}'", path.display()))
}

/// A table with numbers aligned to the right, the first `labels` columns to the left.
pub fn table<H: Into<String>>(header: impl IntoIterator<Item = H>, labels: usize) -> Table {
    let mut table = Table::new();
    let rule = LineStyle::none().fill('─').junction('─');
    table.load_style(TableStyle::new().header_separator(rule));
    let header: Vec<String> = header.into_iter().map(Into::into).collect();
    table.set_header(header.into_iter().map(|name| Cell::new(name).add_attribute(comfy_table::Attribute::Bold)));
    for column in table.column_iter_mut().skip(labels) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
