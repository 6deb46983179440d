//! The functions of the header, called with all that may be wrong, and from several threads at once.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_void};
use std::ptr::{null, null_mut};

use draftpick::engine::{PairSampling, Shape, chain, verify};
use draftpick::path::{Chain, Coins, PathVerifier, Purpose, RoundCoins, Verifier};
use draftpick::{Coin, Pmf, Problem, Rule, Sampling, Token};
use draftpick_c::ffi::*;

const P: [f64; 3] = [0.5, 0.3, 0.2];
const Q: [f64; 3] = [0.2, 0.3, 0.5];
const AS_THEY_ARE: DraftpickSampling = DraftpickSampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0 };

fn by_seed(seed: u64, position: u64) -> DraftpickCoins {
    DraftpickCoins { seed, position, toss: None, context: null_mut() }
}

fn message() -> String {
    // SAFETY: the message lives until the next failure of this thread.
    unsafe { CStr::from_ptr(draftpick_last_error()) }.to_str().unwrap().into()
}

#[track_caller]
fn refused(status: DraftpickStatus, expected: DraftpickStatus, words: &str) {
    assert_eq!(status, expected, "{}", message());
    assert!(message().contains(words), "{:?} has no {words:?}", message());
}

use DraftpickStatus::{Argument, Input, Ok};

fn selector(rule: &str, k: usize) -> *mut DraftpickSelector {
    let (rule, mut out) = (CString::new(rule).unwrap(), null_mut());
    // SAFETY: all pointers are to what is said.
    let made =
        unsafe { draftpick_selector_from_probabilities(rule.as_ptr(), P.as_ptr(), Q.as_ptr(), P.len(), k, &mut out) };
    assert_eq!(made, Ok, "{}", message());
    out
}

#[test]
fn wrong_problems_are_refused_with_a_message() {
    let mut alpha = -1.0;
    // SAFETY: all pointers are to what is said, or null.
    let star = |p: &[f64], q: *const f64, k: usize, alpha: *mut f64| unsafe {
        draftpick_alpha_star(p.as_ptr(), q, p.len(), k, alpha)
    };
    assert_eq!(star(&P, Q.as_ptr(), 2, &mut alpha), Ok);
    assert!((alpha - 0.86).abs() < 1e-12);
    refused(star(&P, null(), 2, &mut alpha), Argument, "target is NULL");
    refused(star(&P, Q.as_ptr(), 2, null_mut()), Argument, "alpha is NULL");
    refused(star(&P, Q.as_ptr().wrapping_byte_add(1), 2, &mut alpha), Argument, "target is not aligned to 8 bytes");
    refused(star(&P, Q.as_ptr(), 0, &mut alpha), Input, "k is 0");
    refused(star(&[], Q.as_ptr(), 2, &mut alpha), Input, "draft: a distribution needs");
    refused(star(&[0.5, 0.3, f64::NAN], Q.as_ptr(), 2, &mut alpha), Input, "draft: the probability of token 2 is NaN");
    refused(star(&[0.5, 0.3, 0.3], Q.as_ptr(), 2, &mut alpha), Input, "add up to 1.1");
    // SAFETY: nothing is read: the length is more than memory holds.
    let status = unsafe { draftpick_alpha_star(P.as_ptr(), Q.as_ptr(), usize::MAX, 2, &mut alpha) };
    refused(status, Argument, "more than memory holds");

    let mut out = null_mut();
    // SAFETY: as above.
    let mut make = |rule: &CStr, k: usize| unsafe {
        draftpick_selector_from_probabilities(rule.as_ptr(), P.as_ptr(), Q.as_ptr(), P.len(), k, &mut out)
    };
    refused(make(c"best", 2), Argument, "no rule is called 'best'");
    refused(make(c"maximal", 2), Input, "maximal takes one draft");
    refused(make(c"kseq", 65), Input, "k is 65");
    refused(make(c"\xff", 2), Argument, "rule is not in UTF-8");
    let logits = [0.0f32, f32::NAN, 0.0];
    // SAFETY: as above.
    let made = unsafe {
        let (row, none) = (logits.as_ptr(), null());
        draftpick_selector_from_logits(c"kseq".as_ptr(), row, row, 3, none, none, 2, &mut out)
    };
    refused(made, Input, "the draft logit of token 1 is NaN");
    assert!(out.is_null(), "nothing is handed out on failure");
}

#[test]
fn wrong_selections_are_refused_with_a_message() {
    let rule = selector("optimal", 2);
    let (mut token, mut accepted) = (7, 7);
    let coins = by_seed(1, 2);
    // SAFETY: all pointers are to what is said, or null.
    let mut select = |drafts: &[i32], coins: *const DraftpickCoins| unsafe {
        draftpick_selector_select(rule, drafts.as_ptr(), drafts.len(), coins, &mut token, &mut accepted)
    };
    refused(select(&[0, 3], &coins), Input, "draft 1 is token 3, outside");
    refused(select(&[0, -1], &coins), Input, "drafts[1] is -1");
    refused(select(&[0], &coins), Input, "1 drafts were given");
    refused(select(&[0, 1], null()), Argument, "coins is NULL");
    let wrong = DraftpickCoins { toss: Some(one), ..coins };
    refused(select(&[0, 1], &wrong), Input, "a coin must be in [0, 1), not 1");
    assert_eq!(select(&[0, 1], &coins), Ok);
    assert!((0..3).contains(&token) && (-1..2).contains(&accepted));
    let mut law = [0.0; 3];
    // SAFETY: as above.
    unsafe {
        let short = draftpick_selector_law(rule, [0, 1].as_ptr(), 2, law.as_mut_ptr(), 2);
        refused(short, Argument, "room for 2");
        refused(draftpick_selector_drafts(null(), &mut 0), Argument, "selector is NULL");
        let mut coin = -1.0;
        refused(draftpick_coin(1, 2, 5, 0, 0, &mut coin), Argument, "purpose is 5");
        assert_eq!(draftpick_coin(1, 2, DraftpickPurpose::Accept as u32, 3, 4, &mut coin), Ok);
        assert_eq!(coin, RoundCoins { seed: 1, start: 2 }.coin(Purpose::Accept, 3, 4).get());
        let row = [0.0f32, 1.0];
        let cold = DraftpickSampling { temperature: -1.0, ..AS_THEY_ARE };
        refused(draftpick_draw(row.as_ptr(), 2, &cold, 0.5, &mut token), Input, "temperature is -1");
        let none = DraftpickSampling { top_p: f64::NAN, ..AS_THEY_ARE };
        refused(draftpick_draw(row.as_ptr(), 2, &none, 0.5, &mut token), Input, "top_p is NaN");
        refused(draftpick_draw(row.as_ptr(), 2, null(), 1.0, &mut token), Input, "a coin must be in [0, 1)");
        let best = DraftpickSampling { top_k: 1, ..AS_THEY_ARE };
        assert_eq!(draftpick_draw(row.as_ptr(), 2, &best, 0.0, &mut token), Ok);
        assert_eq!(token, 1);
        draftpick_selector_free(rule);
    }
}

extern "C" fn one(_: *mut c_void, _: DraftpickPurpose, _: usize, _: usize) -> f64 {
    1.0
}

/// Coins in the order in which a selection takes them: one a draft, accept, residual.
extern "C" fn listed(context: *mut c_void, purpose: DraftpickPurpose, depth: usize, draft: usize) -> f64 {
    // SAFETY: the tests hand over such a list.
    let coins = unsafe { &*context.cast::<Vec<f64>>() };
    assert_eq!(depth, 0);
    match purpose {
        DraftpickPurpose::Label => coins[draft],
        DraftpickPurpose::Accept => coins[coins.len() - 2],
        _ => coins[coins.len() - 1],
    }
}

/// Every rule selects through the interface what it selects without it, on as many threads as there like to be.
#[test]
fn selections_are_those_of_the_library_on_every_thread() {
    for (name, k) in [("maximal", 1), ("rrs", 2), ("rrs-wor", 2), ("kseq", 3), ("optimal", 3), ("optimal-linear", 3)] {
        let handle = selector(name, k) as usize;
        let problem = Problem::new(Pmf::new(P).unwrap(), Pmf::new(Q).unwrap(), k).unwrap();
        let on_a_thread = |thread: u64| {
            let rule = name.parse::<Rule>().unwrap().prepare(&problem);
            for i in 0..200 {
                let drafts: Vec<i32> = (0..k as i32).map(|j| (thread as i32 + i + j) % 3).collect();
                let coin = |j: usize| ((i as usize * 7 + j * 13 + thread as usize) % 100) as f64 / 100.0;
                let mut coins: Vec<f64> = (0..k + 2).map(coin).collect();
                let given = DraftpickCoins { toss: Some(listed), context: (&raw mut coins).cast(), ..by_seed(0, 0) };
                let (mut token, mut accepted) = (0, 0);
                let own: Vec<Token> = drafts.iter().map(|&token| token as Token).collect();
                let coins: Vec<Coin> = coins.iter().map(|&coin| Coin::new(coin).unwrap()).collect();
                let selection = rule.select(&own, &coins).unwrap();
                // SAFETY: the handle lives until the threads are done.
                unsafe {
                    let handle = handle as *const DraftpickSelector;
                    let (to, of) = (&raw mut token, &raw mut accepted);
                    assert_eq!(draftpick_selector_select(handle, drafts.as_ptr(), k, &given, to, of), Ok);
                    assert_eq!(token as Token, selection.token(&own));
                    // Messages are a thread's own.
                    let own = format!("{} drafts were given", thread + 5);
                    let many = vec![0; thread as usize + 5];
                    let wrong = draftpick_selector_select(handle, many.as_ptr(), many.len(), &given, to, of);
                    std::thread::yield_now();
                    refused(wrong, Input, &own);
                }
            }
        };
        std::thread::scope(|scope| {
            for thread in 0..4 {
                scope.spawn(move || on_a_thread(thread));
            }
        });
        // SAFETY: nobody uses it any more.
        unsafe { draftpick_selector_free(handle as *mut _) };
    }
}

fn rows(seed: u64, count: usize, vocab: usize) -> Vec<f32> {
    let coin = |i: usize| RoundCoins { seed, start: 0 }.coin(Purpose::Draft, i, 0).get();
    (0..count * vocab).map(|i| 4.0 * coin(i) as f32).collect()
}

#[test]
fn a_batch_of_positions_is_selected_in_place() {
    let (count, k, vocab, stride) = (5, 2, 7, 9);
    let (draft, target) = (rows(1, count, stride), rows(2, count, vocab));
    let drafts: Vec<i32> = (0..count as i32 * k as i32).map(|i| i % vocab as i32).collect();
    let coins: Vec<_> = (0..count as u64).map(|i| by_seed(3, i)).collect();
    let warm = vec![DraftpickSampling { temperature: 1.5, top_k: 6, ..AS_THEY_ARE }; count];
    let batch = DraftpickPositions {
        count,
        k,
        vocab,
        drafts: drafts.as_ptr(),
        draft_logits: draft.as_ptr(),
        draft_stride: stride,
        target_logits: target.as_ptr(),
        target_stride: 0,
        draft_sampling: null(),
        target_sampling: warm.as_ptr(),
        coins: coins.as_ptr(),
    };
    let (mut tokens, mut accepted) = (vec![-7; count], vec![-7; count]);
    // SAFETY: all pointers are to what is said, or null.
    let mut call = |rule: &CStr, batch: &DraftpickPositions| unsafe {
        draftpick_select(rule.as_ptr(), batch, tokens.as_mut_ptr(), accepted.as_mut_ptr())
    };
    refused(call(c"maximal", &batch), Input, "maximal takes one draft, not 2");
    refused(call(c"kseq", &DraftpickPositions { vocab: 5, ..batch }), Input, "request 2: draft 1 is token 5");
    refused(call(c"kseq", &DraftpickPositions { draft_stride: 5, ..batch }), Argument, "5 apart and 7 long");
    refused(call(c"kseq", &DraftpickPositions { count: usize::MAX / 2, ..batch }), Argument, "more than memory holds");
    refused(call(c"kseq", &DraftpickPositions { drafts: null(), ..batch }), Argument, "drafts is NULL");
    assert_eq!(call(c"kseq", &DraftpickPositions { count: 0, drafts: null(), ..batch }), Ok);
    assert_eq!(call(c"optimal-linear", &batch), Ok, "{}", message());
    let sampling = Sampling { temperature: 1.5, top_k: Some(6), ..Sampling::default() };
    let pair = PairSampling { target: sampling, ..PairSampling::default() };
    for i in 0..count {
        let own: Vec<Token> = drafts[i * k..][..k].iter().map(|&token| token as Token).collect();
        let source = RoundCoins { seed: 3, start: i as u64 };
        let mut coins: Vec<Coin> = (0..k).map(|j| source.coin(Purpose::Label, 0, j)).collect();
        coins.extend([source.coin(Purpose::Accept, 0, 0), source.coin(Purpose::Residual, 0, 0)]);
        let logits = (&draft[i * stride..][..vocab], &target[i * vocab..][..vocab]);
        let selection = draftpick::engine::select(Rule::OptimalLinear, logits, &pair, &own, &coins).unwrap();
        assert_eq!(tokens[i] as Token, selection.token(&own));
        assert!(accepted[i] == -1 || drafts[i * k + accepted[i] as usize] == tokens[i]);
    }
}

#[test]
fn chains_are_verified_as_the_engine_does() {
    let (vocab, width) = (6, 4);
    let drafts = [1, 2, 3, 0, 5, 4];
    let (ends, counts) = ([3, 3, 4, 6], [3usize, 0, 1, 2]);
    let (logits, target) = (rows(4, 6, vocab), rows(5, 6, vocab));
    let row = |rows: &[f32], i: usize| rows[i * vocab..][..vocab].to_vec();
    let laws = (0..6).map(|i| Pmf::from_logits(&row(&logits, i), &Sampling::default()).unwrap());
    let probabilities: Vec<f32> = laws.flat_map(|law| law.as_slice().to_vec()).map(|p| p as f32).collect();
    let bonus = [5, 4, 3, 2];
    let sampling = [AS_THEY_ARE, AS_THEY_ARE, DraftpickSampling { temperature: 0.0, ..AS_THEY_ARE }, AS_THEY_ARE];
    let coins: Vec<_> = (0..4).map(|i| by_seed(i, 9)).collect();
    let batch = DraftpickChains {
        requests: 4,
        max_spec_len: width - 1,
        vocab,
        draft_token_ids: drafts.as_ptr(),
        cu_num_draft_tokens: ends.as_ptr(),
        draft_probs: probabilities.as_ptr(),
        draft_stride: 0,
        target_logits: target.as_ptr(),
        target_stride: vocab,
        bonus_token_ids: bonus.as_ptr(),
        sampling: sampling.as_ptr(),
        coins: coins.as_ptr(),
    };
    // SAFETY: all pointers are to what is said, or null.
    let verified = |name: &CStr, batch: &DraftpickChains| unsafe {
        let mut output = vec![-7; 4 * width];
        (draftpick_verify_chains(name.as_ptr(), batch, output.as_mut_ptr()), output)
    };
    let call = |name: &CStr, batch: &DraftpickChains| {
        let (status, output) = verified(name, batch);
        assert!(output.iter().all(|&token| token == -7), "something was written");
        status
    };
    refused(call(c"best", &batch), Argument, "no path verifier is called 'best'");
    let short = DraftpickChains { max_spec_len: 2, ..batch };
    refused(call(c"block", &short), Input, "cu_num_draft_tokens[0] is 3; it must be from 0 to 2");
    let back = [3, 2, 4, 6];
    let back = DraftpickChains { cu_num_draft_tokens: back.as_ptr(), ..batch };
    refused(call(c"block", &back), Input, "cu_num_draft_tokens[1] is 2; it must be from 3 to 6");
    let zero = vec![0.0; probabilities.len()];
    let zero = DraftpickChains { draft_probs: zero.as_ptr(), ..batch };
    refused(call(c"block", &zero), Input, "request 0: the draft probabilities add up to 0");
    for given in [Some(()), None] {
        let batch = DraftpickChains { draft_probs: given.map_or(null(), |()| batch.draft_probs), ..batch };
        let (status, output) = verified(c"block", &batch);
        assert_eq!(status, Ok, "{}", message());
        let mut start = 0;
        for (i, &count) in counts.iter().enumerate() {
            let own: Vec<Token> = drafts[start..][..count].iter().map(|&token| token as Token).collect();
            let draft = |t: usize| &probabilities[(start + t) * vocab..][..vocab];
            let draft = given.map(|()| &draft as &dyn Fn(usize) -> _);
            let target = |t: usize| &target[(start + t) * vocab..][..vocab];
            let law = Sampling { temperature: sampling[i].temperature, ..Sampling::default() };
            let coins = RoundCoins { seed: i as u64, start: 9 };
            let kept = chain(&own, draft, target, &law, "block".parse().unwrap(), &coins).unwrap();
            let mut expected: Vec<i32> = own[..kept.accepted].iter().map(|&token| token as i32).collect();
            expected.push(kept.next.map_or(bonus[i], |token| token as i32));
            expected.resize(width, -1);
            assert_eq!(output[i * width..][..width], expected);
            start += count;
        }
    }
}

/// The two paths 0 1 and 0 2 over three tokens.
struct Drafted {
    tokens: Vec<i32>,
    parents: Vec<i32>,
    draft: Option<Vec<Vec<f32>>>,
    target: Vec<Vec<f32>>,
}

impl Drafted {
    fn new() -> Self {
        let rows = |laws: [[f32; 3]; 4]| laws.map(|law| law.map(f32::ln).to_vec()).to_vec();
        Drafted {
            tokens: vec![-9, 0, 1, 2],
            parents: vec![-1, 0, 1, 1],
            draft: Some(rows([[0.5, 0.3, 0.2]; 4])),
            target: rows([[0.2, 0.3, 0.5], [0.4, 0.1, 0.5], [0.3, 0.3, 0.4], [0.8, 0.1, 0.1]]),
        }
    }

    /// An empty row is none.
    fn verify(&self, verifier: &CStr, coins: DraftpickCoins, room: usize) -> (DraftpickStatus, Vec<i32>, i32) {
        let row = |row: &Vec<f32>| if row.is_empty() { null() } else { row.as_ptr() };
        let rows = |rows: &[Vec<f32>]| rows.iter().map(row).collect::<Vec<_>>();
        let (draft, target) = (self.draft.as_deref().map(rows), rows(&self.target));
        let tree = DraftpickTree {
            nodes: self.tokens.len(),
            vocab: 3,
            tokens: self.tokens.as_ptr(),
            parents: self.parents.as_ptr(),
            draft_logits: draft.as_ref().map_or(null(), |rows| rows.as_ptr()),
            target_logits: target.as_ptr(),
            draft_sampling: null(),
            target_sampling: &AS_THEY_ARE,
            coins,
        };
        let (mut tokens, mut length, mut node) = (vec![77; room], usize::MAX, 77);
        let (to, long, at) = (tokens.as_mut_ptr(), &mut length, &mut node);
        // SAFETY: all pointers are to what is said, or null.
        let status = unsafe { draftpick_verify_trees(verifier.as_ptr(), &tree, 1, to, room, long, at) };
        if status == Ok {
            assert!(tokens[length..].iter().all(|&token| token == -1));
            tokens.truncate(length);
        } else {
            assert!(
                tokens.iter().all(|&token| token == 77) && (length, node) == (usize::MAX, 77),
                "something was written"
            );
        }
        (status, tokens, node)
    }
}

/// The outcomes have the law that the verifier names for these drafts, within five standard errors.
#[test]
fn trees_are_verified() {
    let drafted = Drafted::new();
    let law = |rows: &[Vec<f32>], node: usize| {
        Pmf::from_weights(rows[node].iter().map(|x| f64::from(*x).exp()).collect::<Vec<_>>()).unwrap()
    };
    let node = |prefix: &[Token]| match prefix {
        [0] => 1,
        [0, 1] => 2,
        [0, 2] => 3,
        _ => 0,
    };
    let draft = drafted.draft.as_deref().unwrap();
    let chain = Chain::new(2, |prefix| (law(draft, node(prefix)), law(&drafted.target, node(prefix)))).unwrap();
    let round = chain.round(&[&[0, 1], &[0, 2]]).unwrap();
    // Not `optimal`: what it chooses given the drafts hangs on where the ratio classes lie, which differs between rows of logits
    // and laws. The law of its output does not.
    for name in [c"path", c"spread", c"traversal", c"kseq"] {
        let verifier: Verifier = name.to_str().unwrap().parse().unwrap();
        let rounds = 20_000;
        let mut accepted = 0.0;
        for seed in 0..rounds {
            let (status, tokens, node) = drafted.verify(name, by_seed(seed, 5), 3);
            assert_eq!(status, Ok, "{}", message());
            let prefix: &[i32] = [&[][..], &[0], &[0, 1], &[0, 2]][node as usize];
            assert!(tokens.len() == prefix.len() + 1 && tokens.starts_with(prefix), "{tokens:?} at {node}");
            accepted += prefix.len() as f64;
        }
        let expected = PathVerifier::<Pmf>::law(&verifier, &round).unwrap().expected_accepted(&round);
        let off = (accepted / rounds as f64 - expected).abs();
        assert!(off < 5.0 / (rounds as f64).sqrt(), "{name:?}: {off} off {expected}");
    }
}

#[test]
fn wrong_trees_are_refused() {
    let wrong = |change: &dyn Fn(&mut Drafted), words: &str| {
        let mut drafted = Drafted::new();
        change(&mut drafted);
        refused(drafted.verify(c"path", by_seed(1, 5), 3).0, Input, words);
    };
    wrong(&|d| d.parents[2] = 2, "the parent of node 2 is 2; it must be an earlier node");
    wrong(&|d| d.parents[2] = -7, "the parent of node 2 is -7");
    wrong(&|d| d.parents[0] = 0, "node 0 is the root");
    wrong(&|d| d.tokens[3] = 3, "token 1 of path 1 is 3, outside");
    wrong(&|d| d.tokens[3] = -1, "tokens[3] is -1");
    wrong(&|d| d.draft.as_mut().unwrap()[1].clear(), "draft_logits[1] is NULL, and node 1 has children");
    wrong(&|d| d.target[0].clear(), "no target logits after 0 tokens of path 0");
    wrong(&|d| d.target[2][1] = f32::NAN, "the target logit of token 1 is NaN");
    wrong(&|d| d.draft.as_mut().unwrap()[0][0] = f32::NEG_INFINITY, "token 0 of path 0 is 0, which has probability 0");
    wrong(&|d| d.tokens.clear(), "a tree needs at least its root");
    let drafted = Drafted::new();
    refused(drafted.verify(c"block", by_seed(1, 5), 3).0, Input, "block takes one path, not 2");
    refused(drafted.verify(c"best", by_seed(1, 5), 3).0, Argument, "no path verifier is called 'best'");
    refused(drafted.verify(c"path", by_seed(1, 5), 0).0, Argument, "there is room for 0");
    // A leaf at which the text ends.
    let mut ended = Drafted::new();
    ended.target[2].clear();
    let ends = |seed: u64| {
        let (status, tokens, node) = ended.verify(c"path", by_seed(seed, 5), 3);
        assert_eq!(status, Ok, "{}", message());
        node == 2 && tokens == [0, 1]
    };
    assert!((0..200).any(ends));
}

/// Without draft logits the drafts are not taken for random: what is kept has the target's law, here and with certainty.
#[test]
fn chosen_drafts_are_followed() {
    let mut drafted = Drafted { draft: None, ..Drafted::new() };
    let (mut first, rounds) = ([0u32; 3], 3_000);
    for seed in 0..rounds {
        let (status, tokens, _) = drafted.verify(c"path", by_seed(seed, 5), 3);
        assert_eq!(status, Ok);
        first[tokens[0] as usize] += 1;
    }
    for (count, q) in first.iter().zip([0.2, 0.3, 0.5]) {
        let off = (f64::from(*count) / rounds as f64 - q).abs();
        assert!(off < 5.0 * (q * (1.0 - q) / rounds as f64).sqrt(), "{first:?}");
    }
    drafted.target[0] = vec![9.0, f32::NEG_INFINITY, f32::NEG_INFINITY];
    drafted.target[1] = vec![f32::NEG_INFINITY, f32::NEG_INFINITY, 9.0];
    let (_, tokens, node) = drafted.verify(c"path", by_seed(1, 5), 3);
    assert_eq!((&tokens[..2], node), (&[0, 2][..], 3));
}

extern "C" fn seeded(context: *mut c_void, purpose: DraftpickPurpose, depth: usize, draft: usize) -> f64 {
    // SAFETY: the test hands over its seed.
    let seed = unsafe { *context.cast::<u64>() };
    RoundCoins { seed, start: 5 }.coin(Purpose::ALL[purpose as usize], depth, draft).get()
}

#[test]
fn coins_may_be_the_callers() {
    let drafted = Drafted::new();
    let shape = Shape::new(&[-1, 0, 1, 1]).unwrap();
    for mut seed in 0..50u64 {
        let tossed = DraftpickCoins { toss: Some(seeded), context: (&raw mut seed).cast(), ..by_seed(99, 99) };
        let wrong = DraftpickCoins { toss: Some(one), ..tossed };
        refused(drafted.verify(c"path", wrong, 3).0, Input, "a coin must be in [0, 1), not 1");
        let (status, tokens, node) = drafted.verify(c"path", tossed, 3);
        assert_eq!((status, tokens.clone(), node), drafted.verify(c"path", by_seed(seed, 5), 3));
        // And they are what the engine's own call makes of them.
        let (draft, target) = (drafted.draft.as_ref().unwrap(), &drafted.target);
        let kept = verify(
            &shape,
            &[0, 0, 1, 2],
            |node| &draft[node],
            |node| Some(&target[node]),
            &PairSampling::default(),
            "path".parse().unwrap(),
            &RoundCoins { seed, start: 5 },
        );
        let kept = kept.unwrap();
        assert_eq!(kept.nodes.last().map_or(0, |&node| node as i32), node);
        assert_eq!(kept.next.map(|token| token as i32), tokens.last().copied());
    }
}
