use super::*;

/// What hostile paths are made of, besides what can't stand in a string.
const PIECES: &str = "/ // .. . : - _ @ \\x2d % é \u{202e} {id} {uid} {u_id} {static}
    kubepods kubepods.slice burstable besteffort pod -pod kubepods-burstable-pod .slice .scope .service
    docker docker- libpod- libpod-conmon- libpod_parent cri-containerd- crio- kata_ lxc lxc.payload. lxc.payload
    session- run-r run-u user@";

#[test]
fn a_hundred_thousand_hostile_paths_give_bounded_labels() {
    let words = PIECES.split_whitespace().map(|piece| path(piece).into_bytes());
    let rest = [&b"\xff\xc3"[..], b" (deleted)", b"\n", b"\0", &[b'a'; 300], &[b'/'; 50]];
    let pieces: Vec<Vec<u8>> = words.chain(rest.map(Vec::from)).collect();

    let mut seed: u64 = 0x0123_4567_89ab_cdef;
    // xorshift64, Marsaglia 2003.
    let mut below = |n: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % n as u64).unwrap()
    };
    for _ in 0..100_000 {
        let mut input = Vec::new();
        for _ in 0..below(12) {
            input.extend_from_slice(&pieces[below(pieces.len())]);
            if below(3) == 0 {
                input.push(b'/');
            }
        }
        for _ in 0..below(3).min(input.len()) {
            let at = below(input.len());
            input[at] = u8::try_from(below(256)).unwrap();
        }
        let placement = Placement::parse(&input);
        let labels = placement.labels();
        for value in labels.values() {
            assert!(value.len() <= 128, "{value:?} of {input:?}");
            assert!(!value.chars().any(char::is_control), "{value:?} of {input:?}");
        }
        assert!(!labels.workload_kind.is_empty());
        let scopes: Vec<_> = (0..4).map(|depth| placement.scope_at(depth)).collect();
        assert_eq!(scopes[0], LimitScope::Node);
        assert!(!scopes[1..].contains(&LimitScope::Node));
    }
}
