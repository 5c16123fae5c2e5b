// The keys of a recipe that belong to stages behind training: refine, multi_step and judge.
#pragma once
#include "train/recipe/recipe.h"
#include "train/recipe/schema.h"

namespace unfurl::train {

// Found by the groups and lists of a Schema.
void describe(Schema& schema, ImageSideRecipe& config);
void describe(Schema& schema, HypothesisConfig& config);
void describe(Schema& schema, FewShotRecipe& config);
void describe(Schema& schema, BestOfRecipe& config);
void describe(Schema& schema, ScoreTermRecipe& config);
void describe(Schema& schema, JudgeConfig& config);
void describe(Schema& schema, RefineRecipe& config);
void describe(Schema& schema, MultiStepRecipe& config);

}  // namespace unfurl::train
