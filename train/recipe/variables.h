// Names for what stands in several places of a pipeline's recipe.
//
//   variables: {world: recipes/worlds/default.yaml}
//   stages:
//     - {name: images, kind: command, commands: ["atelier corpus --world ${world} --out $OUT"]}
//
// and on the command line: --set variables.world=recipes/worlds/harsh.yaml
#pragma once
#include "train/recipe/document.h"

namespace unfurl::train {

/// A variable may use those that stand before it. Takes the member `variables` out of the document and puts their
/// values where "${NAME}" stands in a value. Throws UserError for a name that is none of them, and where a value of
/// `variables` is no plain text.
void substitute_variables(Node& root);

}  // namespace unfurl::train
