//! Text from a pair of real models: the embedded one, or two checkpoints in the Hugging Face layout.
//!
//! `cargo run --release --features candle --example candle [TARGET_DIR DRAFT_DIR]`

use std::io::Write;

use draftpick::decode::candle::{Device, Llama, Pair, Tokenizer, embedded};
use draftpick::decode::{Model, Request, Settings, Speculative};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    write(&std::env::args().skip(1).collect::<Vec<_>>())
}

fn write(dirs: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let Pair { draft, target, tokenizer } = match dirs {
        [target, draft] => {
            let tokenizer = Tokenizer::load(target)?;
            // A draft model must mean the same tokens by the same numbers.
            tokenizer.check_same(&Tokenizer::load(draft)?)?;
            let load = |dir| Llama::load(dir, &Device::Cpu, None);
            Pair { draft: load(draft)?, target: load(target)?, tokenizer }
        }
        _ => embedded(&Device::Cpu, None)?,
    };

    let vocab = tokenizer.vocab();
    let settings = Settings {
        paths: 2,
        length: 3,
        stop: target.end_of_text().to_vec(),
        // Each model may have padded its vocabulary; no text has those tokens.
        vocab: (draft.vocab() > vocab || target.vocab() > vocab).then_some(vocab),
        ..Settings::default()
    };
    let prompt = "Returns the number of elements in the";
    let request = Request { prompt: tokenizer.encode(prompt)?, seed: 1, limit: 48, ..Request::default() };
    let mut engine = Speculative::new(draft, target, settings)?;
    // A token may end within a character: the stream holds it back until it is whole.
    let mut stream = tokenizer.stream();
    print!("{prompt}");
    for token in engine.tokens(request)? {
        print!("{}", stream.push(token?)?);
        std::io::stdout().flush()?;
    }
    println!("{}", stream.finish()?);

    let statistics = engine.statistics();
    let kept: Vec<String> = statistics.acceptance_by_depth().iter().map(|share| format!("{share:.2}")).collect();
    println!("\n{:.2} tokens for each call of the target", statistics.block_efficiency());
    println!("drafts kept at depth 1, 2, …: {}", kept.join(" "));
    Ok(())
}

#[test]
fn the_embedded_pair_writes() {
    write(&[]).unwrap();
}
