//! Requests by io_uring in exact numbers.

use std::{
    fs::File,
    os::fd::AsRawFd as _,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};
use io_uring::{
    IoUring,
    opcode::{Nop, Read},
    squeue::{Entry, Flags},
    types::Fd,
};
use serde_json::json;

use crate::{Arguments, ready, report, share, wait_for_line};

const ENTRIES: u32 = 64;
/// How long the kernel's thread polls a ring where nothing happens before it sleeps: less than a batch may take, so
/// that it is woken again and again.
const IDLE: Duration = Duration::from_millis(1);

/// `--rings N --nops M --reads K --refused R [--polled true] [--pause true]`: makes N rings and submits M requests that
/// do nothing, every other linked to the next, K reads, and R that the kernel refuses as they are: as many in total,
/// shared by the rings, each of which has a thread. `polled`: a thread of the kernel takes them. `pause`: reports
/// `"made"` when the rings are made, and waits for a line.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let rings: u64 = arguments.or("rings", 1)?;
    let [nops, reads, refused] = ["nops", "reads", "refused"].map(|name| arguments.or(name, 0));
    let (nops, reads, refused) = (nops?, reads?, refused?);
    let polled = arguments.or("polled", false)?;
    ready()?;
    let made = (0..rings).map(|_| make(polled)).collect::<Result<Vec<_>>>()?;
    if arguments.or("pause", false)? {
        report(&json!("made"));
        wait_for_line()?;
    }
    let begin = Instant::now();
    let workers: Vec<_> = (0..rings)
        .zip(made)
        .map(|(index, ring)| {
            let part = move |total| share(total, rings, index);
            thread::spawn(move || work(ring, part(nops), part(reads), part(refused)))
        })
        .collect();
    for worker in workers {
        worker.join().map_err(|_| anyhow!("a thread panicked"))??;
    }
    let took = begin.elapsed().as_secs_f64();
    report(&json!({ "rings": rings, "nops": nops, "reads": reads, "took": took }));
    Ok(())
}

fn make(polled: bool) -> Result<IoUring> {
    let mut builder = IoUring::builder();
    if polled {
        builder.setup_sqpoll(u32::try_from(IDLE.as_millis())?);
    }
    builder.build(ENTRIES).map_err(|error| anyhow!("io_uring_setup: {error}"))
}

fn work(mut ring: IoUring, nops: u64, reads: u64, refused: u64) -> Result<()> {
    let file = File::open("/dev/zero")?;
    let mut target = [1u8; 16];
    let address = target.as_mut_ptr();
    let nop = |index: u64| {
        // A chain must not reach beyond its batch, which is cut after an even number.
        let is_linked = index.is_multiple_of(2) && index + 1 < nops;
        Nop::new().build().flags(if is_linked { Flags::IO_LINK } else { Flags::empty() })
    };
    let read = |_| Read::new(Fd(file.as_raw_fd()), address, 16).build();
    // Buffers are nothing to those who do nothing (`io_init_req`, io_uring/io_uring.c).
    let refusal = |_| Nop::new().build().flags(Flags::BUFFER_SELECT);
    submit(&mut ring, nops, ENTRIES.into(), nop, 0)?;
    submit(&mut ring, reads, ENTRIES.into(), read, 16)?;
    // The kernel takes no more from the ring than up to the first of these.
    submit(&mut ring, refused, 1, refusal, -libc::EOPNOTSUPP)?;
    ensure!(reads == 0 || target == [0; 16], "nothing was read");
    Ok(())
}

/// Submits `count` requests in batches and waits for their results, each of which has to be `expected`.
fn submit(
    ring: &mut IoUring,
    count: u64,
    batch: u64,
    request: impl Fn(u64) -> Entry,
    expected: i32,
) -> Result<()> {
    let mut submitted = 0;
    while submitted < count {
        let end = count.min(submitted + batch);
        for index in submitted..end {
            // A thread of the kernel may give a request's result before its place in the queue.
            while ring.submission().is_full() {
                ring.submitter().squeue_wait()?;
            }
            // SAFETY: what the request points to lives on in the caller until its result is there.
            unsafe { ring.submission().push(&request(index)) }?;
        }
        let mut results = 0;
        while results < end - submitted {
            ring.submit_and_wait(1)?;
            for result in ring.completion() {
                ensure!(result.result() == expected, "a request ended with {}", result.result());
                results += 1;
            }
        }
        submitted = end;
    }
    Ok(())
}
