use draftpick::scan::Scan;
use std::hint::black_box;
fn main() {
    let v = 128256usize;
    let mut s = 12345u64;
    let mut rnd = || {
        s ^= s << 13;
        s ^= s >> 7;
        s ^= s << 17;
        (s >> 11) as f64 / (1u64 << 53) as f64
    };
    let lp: Vec<f32> =
        (0..v).map(|i| (-(((i * 7919) % v) as f64 + 3.0).ln() * 1.1 + (rnd() + rnd() + rnd() - 1.5)) as f32).collect();
    let lq: Vec<f32> = lp.iter().map(|x| (*x as f64 + (rnd() + rnd() + rnd() - 1.5) * 2.0) as f32).collect();
    let sc = Scan::new(&lp, &lq, 8).unwrap();
    let t = std::time::Instant::now();
    for _ in 0..3000 {
        black_box(sc.optimal());
    }
    println!("opt {:?}", t.elapsed() / 3000);
    let t = std::time::Instant::now();
    for _ in 0..3000 {
        black_box(sc.kseq());
    }
    println!("kseq {:?}", t.elapsed() / 3000);
    let t = std::time::Instant::now();
    for _ in 0..3000 {
        black_box(Scan::new(&lp, &lq, 8).unwrap());
    }
    println!("scan {:?}", t.elapsed() / 3000);
}
