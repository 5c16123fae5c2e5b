// How far a training run is: what its checkpoints keep in state.json, beside the weights and the optimiser's state.
#pragma once
#include <filesystem>
#include <limits>
#include <string>

#include "core/json.h"
#include "core/product.h"
#include "train/data/loader.h"
#include "train/recipe/recipe.h"
#include "train/trainer/spikes.h"

namespace unfurl::train {

struct RunState {
  Index step = 0;      // steps done
  Index updates = 0;   // those of them that changed the weights
  Index tokens = 0;    // rows of micro-batches
  double seconds = 0;  // of training, over all sessions
  LoaderState loader;
  Index best_step = 0;                                         // of the best validation; 0: there was none
  double best_loss = std::numeric_limits<double>::infinity();  // its loss, nats a target
  Index without_gain = 0;                                      // validations since then
  Index bad_steps = 0;  // the last steps in a row whose loss or gradient was not finite
  NormWindow norms;     // of the gradients of the last steps

  ProductChoices products;  // on a GPU: the algorithms that the bits depend on
  bool simulated = false;   // trained on simulated pairs, here or by the run it starts from
  std::string placement;    // what it was computed on, and in which precision

  /// Notes a validation after the last step; true where it is the best so far.
  bool note_validation(double loss);
};

/// The state with the recipe and the fingerprint of the data that a run may go on with.
Json to_json(const RunState& state, const Recipe& recipe, std::uint64_t data);

/// What a checkpoint keeps of the choices, and what it has kept.
Json to_json(const ProductChoices& products);
ProductChoices read_product_choices(const Json& json);

/// The state that a checkpoint's state.json holds. Throws UserError where that is of a run that `recipe` or `data`
/// would not have made, or does not fit the checkpoint it is in.
RunState read_run_state(const Json& json, const std::filesystem::path& checkpoint, const Recipe& recipe,
                        std::uint64_t data);

}  // namespace unfurl::train
