"""Items and contexts as a graph: walks, neighbourhoods, PageRank."""
