#include "train/cli/cli.h"

int main(int argc, char** argv) { return unfurl::train::run_cli(argc, argv); }
