// The commands of `atelier`, the simulated image side. Whatever they print or write says that it is simulated.
#pragma once
#include <cstdint>
#include <filesystem>
#include <istream>
#include <ostream>
#include <string>
#include <vector>

#include "train/atelier/model.h"

namespace unfurl::train::atelier {

/// atelier serve: the protocol of train/image_side/protocol.h. Answers come one by one, in order.
struct ServeOptions {
  int generator = 1;  // or 2
  Embedder embedder = Embedder::filter;
  bool taste = false;  // answers have `aesthetic`
};
/// Until the end of `in`. A line that is no request is answered by an error without an id. Warns once where the world
/// does not know most words of the prompts.
void serve(Model& model, const ServeOptions& options, std::istream& in, std::ostream& out);

/// atelier corpus: images of the corpus, kept by a noisy proxy of taste, as the inverter sees them. Writes to `out`:
///
///   images.jsonl           one line an image: id, caption, source, simulated
///   images.safetensors     embeddings [images, d], f32, as in all that follow
///   captions.safetensors   of the texts of their captions
///   NAME.txt, NAME.safetensors   lists of flavors and their texts: flavors (all of them), mediums, artists, movements
///                          and trendings
///   votes.jsonl            likes and dislikes of ten people: id, likes, dislikes
///   head.safetensors       an aesthetic head, weight [1, d] and bias [1], taught by the proxy
///   truth.jsonl            what is in the images, for tests of the inversion: id, flavors, proxy
///
/// Every third image is called generated; it is drawn as the others are. With `corpus.keep: 1` in the world, head and
/// votes are for keeping images by.
struct CorpusOptions {
  std::int64_t images = 1000;
  std::filesystem::path out = {};
};
void run_corpus(Model& model, const CorpusOptions& options);

/// atelier captions: the inverter's embeddings of the captions of a list of images, in its order.
struct CaptionsOptions {
  std::filesystem::path images = {};  // read: train/corpus/images.h
  std::filesystem::path out = {};     // written, .safetensors
};
void run_captions(Model& model, const CaptionsOptions& options);

/// atelier describe: what random flavors do to straight queries, and how the draws are related. Nothing trained is in
/// it: this is all that a world may be calibrated on.
struct DescribeOptions {
  std::int64_t queries = 200;
  std::int64_t images = 4;  // a query
};
struct Calibration {
  struct Row {
    int flavors = 0;  // added to the straight query, drawn by popularity
    double taste = 0, taste_error = 0, alignment = 0, diversity = 0, prompt_alignment = 0;
  };
  std::vector<Row> rows[kGenerators];
  double rendered[kGenerators] = {};  // shares of the flavors
  double taste_renderability[kGenerators] = {}, bias_renderability[kGenerators] = {}, between_generators = 0;
  /// Of how well pictures show their query, to the filter and to the judge, within a query and over random flavors.
  double agreement[kGenerators] = {};
  std::size_t flavors = 0;
};
Calibration calibrate(Model& model, const DescribeOptions& options);
void run_describe(Model& model, const DescribeOptions& options);

/// Pearson's.
double correlation(const std::vector<double>& a, const std::vector<double>& b);

}  // namespace unfurl::train::atelier
