// Plain text for pre-training.
#pragma once
#include <filesystem>
#include <vector>

#include "kernels/types.h"
#include "train/corpus/pair.h"
#include "train/data/tokenizer.h"
#include "train/recipe/recipe.h"

namespace unfurl::train {

/// The documents of a file as pairs without a query, each text once. Of *.jsonl they are the prompts of pairs, with
/// their ids; of any other file its lines, or with DocumentsIn::paragraphs what stands between blank lines (line ends
/// become spaces), with the hash of the text as id. Throws UserError for a file without any, or with more bad lines
/// than `rule` allows; the others are named and left out.
std::vector<Pair> read_documents(const std::filesystem::path& path, DocumentsIn documents, BadLineRule rule);

/// Cuts a document between words into parts of nearly equal length, of at most `most` tokens each (but a word alone may
/// be longer).
std::vector<std::string> cut_document(std::string_view text, const Tokenizer& tokenizer, Index most);

}  // namespace unfurl::train
