//! What nodes say once they know each other, and what commands and a served node say to each other.

use shard::node::home::{Answer, MAX_ANSWER_BYTES, MAX_NOTICE_BYTES, MAX_QUESTION_BYTES, Notice, Question};
use shard::peer::storage::{MAX_ANSWER_BYTES as MAX_STORAGE_ANSWER_BYTES, MAX_REQUEST_BYTES};
use shard::peer::storage::{StorageAnswer, StorageRequest};

/// A message of a node to another.
pub(crate) fn notice(bytes: &[u8]) -> bool {
    match Notice::parse(bytes) {
        Ok(notice) => {
            assert!(!notice.text().is_empty() && notice.text().len() <= MAX_NOTICE_BYTES);
            assert_eq!(notice.to_bytes(), bytes, "what is read is written the same");
            true
        }
        Err(error) => {
            assert!(error.to_string().len() < 200, "an error quotes nothing");
            false
        }
    }
}

/// The first byte says whether a store asks or a node answers.
pub(crate) fn storage(bytes: &[u8]) -> bool {
    let Some((first, rest)) = bytes.split_first() else { return false };
    let outcome = if first & 1 == 0 {
        StorageRequest::parse(rest).map(|request| (request.to_bytes(), MAX_REQUEST_BYTES))
    } else {
        StorageAnswer::parse(rest).map(|answer| (answer.to_bytes(), MAX_STORAGE_ANSWER_BYTES))
    };
    match outcome {
        Ok((written, limit)) => {
            assert_eq!(written, rest, "what is read is written the same");
            assert!(written.len() <= limit, "what is read fits a frame");
            true
        }
        Err(error) => {
            assert!(error.to_string().len() < 200, "an error quotes nothing");
            false
        }
    }
}

/// The first byte says whether a command asks or a served node answers.
pub(crate) fn control(bytes: &[u8]) -> bool {
    let Some((first, rest)) = bytes.split_first() else { return false };
    if first & 1 == 0 {
        let Ok(question) = Question::parse(rest) else { return false };
        assert!(rest.len() <= MAX_QUESTION_BYTES);
        let line = question.to_line();
        // What was left out is written as nothing: a line that was as long as it may be can be longer by that.
        assert!(line.len() > MAX_QUESTION_BYTES || Question::parse(&line).ok() == Some(question), "it is read again");
    } else {
        let Ok(answer) = Answer::parse(rest) else { return false };
        let line = answer.to_line();
        assert!(rest.len() <= MAX_ANSWER_BYTES && line.len() <= MAX_ANSWER_BYTES);
        let again = Answer::parse(&line).expect("what is written is read");
        assert_eq!(again.to_line(), line, "and written the same");
    }
    true
}
