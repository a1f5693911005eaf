// The published grammar of Python with the tree-sitter runtime of its time as one shared library, for
// python_grammar.py, which compiles it with the runtime's lib.c and the grammar's parser.c and scanner.cc.
//
// The runtime's own API hides what two details of its S-expressions hang on (the hidden nodes below an aliased one, the
// character of an error), and printing those is recursive, so that deep trees overflow the stack. This hands out all
// nodes of a tree instead, the hidden ones among them, in one array and without recursion.

#define _POSIX_C_SOURCE 200112L  // as lib.c has it
#include <stddef.h>

#include "atomic.h"

// The runtime looks at its cancellation flag at every hundredth action of the parser, and this is how it does so. A flag
// that counts down ends a parse after the same action on every machine, which a time limit would not.
static inline size_t count_down(const volatile size_t *flag) { return --*(volatile size_t *)flag == 0; }
#define atomic_load count_down

#include "lib.c"

extern const TSLanguage *tree_sitter_python(void);

enum { VISIBLE = 1, NAMED = 2, SHOWN = 4, PLAIN = 8, MISSING = 16, UNEXPECTED = 32, EXTRA = 64 };

typedef struct {
  uint16_t symbol;  // as displayed: the alias where there is one
  uint16_t own_symbol;  // without its alias
  uint16_t field;  // 0: none of its own
  uint16_t flags;
  uint32_t child_count;  // hidden children, too
  int32_t character;  // what was not expected
  uint32_t start_row, start_column, end_row, end_column;  // columns in bytes
} FlatNode;

typedef struct {
  Subtree parent;
  Length position;  // where the next child's padding begins
  uint32_t child, structural_child;
} Frame;

typedef struct {
  FlatNode *nodes;
  uint32_t count, capacity;
} FlatTree;

static bool grow(void **items, uint32_t *capacity, size_t size) {
  if (*capacity > UINT32_MAX / 2) return false;
  uint32_t larger = *capacity ? *capacity * 2 : 256;
  void *moved = realloc(*items, larger * size);
  if (!moved) return false;
  *items = moved;
  *capacity = larger;
  return true;
}

static void describe(FlatNode *node, const TSLanguage *language, Subtree tree, Length position, TSSymbol alias,
                     TSFieldId field) {
  bool plain = ts_subtree_visible(tree) && ts_subtree_named(tree);  // prints its own type, with no alias
  bool missing = ts_subtree_missing(tree);
  bool named = alias ? ts_language_symbol_metadata(language, alias).named : ts_subtree_named(tree);
  bool unexpected = ts_subtree_is_error(tree) && !ts_subtree_child_count(tree) && tree.ptr->size.bytes > 0;
  Length start = length_add(position, ts_subtree_padding(tree));
  Length end = length_add(start, ts_subtree_size(tree));
  node->own_symbol = ts_subtree_symbol(tree);
  node->symbol = alias ? alias : node->own_symbol;
  node->field = field;
  node->flags = (ts_subtree_visible(tree) || alias ? VISIBLE : 0) | (named ? NAMED : 0) |
                (missing || (alias ? named : plain) ? SHOWN : 0) | (missing || plain ? PLAIN : 0) |
                (missing ? MISSING : 0) | (unexpected ? UNEXPECTED : 0) | (ts_subtree_extra(tree) ? EXTRA : 0);
  node->child_count = ts_subtree_child_count(tree);
  node->character = unexpected ? tree.ptr->lookahead_char : 0;
  node->start_row = start.extent.row;
  node->start_column = start.extent.column;
  node->end_row = end.extent.row;
  node->end_column = end.extent.column;
}

// All nodes in the order of the text, parents first. False where memory ends.
static bool flatten(const TSTree *tree, FlatTree *flat) {
  const TSLanguage *language = tree->language;
  Frame *frames = NULL;
  uint32_t depth = 0, capacity = 0;
  bool ok = grow((void **)&frames, &capacity, sizeof *frames);
  if (ok) {
    describe(&flat->nodes[flat->count++], language, tree->root, length_zero(), 0, 0);
    if (ts_subtree_child_count(tree->root)) frames[depth++] = (Frame){tree->root, length_zero(), 0, 0};
  }
  while (ok && depth) {
    Frame *frame = &frames[depth - 1];
    if (frame->child == ts_subtree_child_count(frame->parent)) {
      depth--;
      continue;
    }
    Subtree child = frame->parent.ptr->children[frame->child++];
    Length position = frame->position;
    TSSymbol alias = 0;
    TSFieldId field = 0;
    if (!ts_subtree_extra(child)) {
      uint16_t production = frame->parent.ptr->production_id;
      const TSSymbol *aliases = ts_language_alias_sequence(language, production);
      if (aliases) alias = aliases[frame->structural_child];
      const TSFieldMapEntry *entry, *end;
      ts_language_field_map(language, production, &entry, &end);
      for (; entry < end && !field; entry++) {
        if (!entry->inherited && entry->child_index == frame->structural_child) field = entry->field_id;
      }
      frame->structural_child++;
    }
    frame->position = length_add(position, ts_subtree_total_size(child));
    ok = flat->count < flat->capacity || grow((void **)&flat->nodes, &flat->capacity, sizeof *flat->nodes);
    if (ok) describe(&flat->nodes[flat->count++], language, child, position, alias, field);
    if (ok && ts_subtree_child_count(child)) {
      ok = depth < capacity || grow((void **)&frames, &capacity, sizeof *frames);
      if (ok) frames[depth++] = (Frame){child, position, 0, 0};
    }
  }
  free(frames);
  return ok;
}

// Parses UTF-8 in at most `hundreds` times 100 actions; `count` is 0 where that is too few. The nodes are the caller's,
// for python_grammar_free; NULL where memory ends.
FlatNode *python_grammar_parse(const char *text, uint32_t bytes, size_t hundreds, uint32_t *count) {
  FlatTree flat = {calloc(1, sizeof(FlatNode)), 0, 1};
  TSParser *parser = ts_parser_new();
  bool ok = flat.nodes && ts_parser_set_language(parser, tree_sitter_python());
  if (ok) {
    ts_parser_set_cancellation_flag(parser, &hundreds);
    TSTree *tree = ts_parser_parse_string(parser, NULL, text, bytes);
    if (tree) {
      ok = flatten(tree, &flat);
      ts_tree_delete(tree);
    }
  }
  ts_parser_delete(parser);
  if (!ok) {
    free(flat.nodes);
    return NULL;
  }
  *count = flat.count;
  return flat.nodes;
}

void python_grammar_free(FlatNode *nodes) { free(nodes); }

const char *python_grammar_symbol_name(uint16_t symbol) {
  return ts_language_symbol_name(tree_sitter_python(), symbol);
}

// The name of field 0 is NULL.
const char *python_grammar_field_name(uint16_t field) {
  return field ? ts_language_field_name_for_id(tree_sitter_python(), field) : NULL;
}
