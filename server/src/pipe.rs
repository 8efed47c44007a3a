//! What commands that print do when their reader has seen enough (`| head`): they end without a word.

use std::any::Any;
use std::panic;

/// From now on, printing to a closed pipe ends the process. Every `println!` of every crate comes by here, because a failed
/// one panics.
pub(crate) fn end_quietly_when_closed() {
    let otherwise = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if is_closed_pipe(info.payload()) {
            std::process::exit(EXIT_PIPE);
        }
        otherwise(info);
    }));
}

/// The text of the standard library's panic; a test holds it to that.
fn is_closed_pipe(payload: &(dyn Any + Send)) -> bool {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.is_some_and(|text| text.starts_with("failed printing to std") && text.contains("Broken pipe"))
}

/// What a shell shows for a process that SIGPIPE has ended. Not 0: nobody has seen the end of it.
const EXIT_PIPE: i32 = 141;
