// SPDX-License-Identifier: Apache-2.0
#include "app/launcher.hpp"

#include <map>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace syncbn::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

using Variables = std::map<std::string, std::string>;

app::Environment environment_of(const Variables& variables) {
  return [&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  };
}

std::string others(const Variables& variables) {
  return app::other_processes(environment_of(variables)).value_or("");
}

std::string command_of(int size, const Variables& variables) {
  return app::start_of_command(size, environment_of(variables)) + "tool";
}

TEST(Launcher, IsWhatACommandBeginsWith) {
  EXPECT_EQ(command_of(1, {}), "tool");
  EXPECT_EQ(command_of(4, {{"OMPI_COMM_WORLD_SIZE", "4"}}), "mpirun -n 4 tool");
  EXPECT_EQ(command_of(4, {{"SLURM_STEP_NUM_TASKS", "4"}, {"PMIX_RANK", "0"}}), "srun -n 4 tool");
  EXPECT_EQ(command_of(4, {{"SLURM_STEP_NUM_TASKS", "2"}, {"OMPI_COMM_WORLD_SIZE", "4"}}),
            "mpirun -n 4 tool");
}

TEST(Launcher, IsNamedWhereItStartedSeveral) {
  EXPECT_EQ(others({{"OMPI_COMM_WORLD_SIZE", "2"}}),
            "2 processes by Open MPI's mpirun (OMPI_COMM_WORLD_SIZE=2)");
  EXPECT_THAT(others({{"PMI_SIZE", "3"}, {"PMI_RANK", "0"}}),
              AllOf(HasSubstr("3 processes by MPICH"), HasSubstr("PMI_SIZE=3")));
  EXPECT_THAT(others({{"MV2_COMM_WORLD_SIZE", "4"}}), HasSubstr("MVAPICH"));
  EXPECT_THAT(others({{"PMIX_RANK", "2"}, {"PMIX_NAMESPACE", "x"}}),
              HasSubstr("at least 3 processes by a launcher that speaks PMIx"));
  EXPECT_EQ(others({{"SLURM_STEP_NUM_TASKS", "8"}, {"SLURM_PROCID", "0"}}),
            "8 processes by srun (SLURM_STEP_NUM_TASKS=8)");
}

TEST(Launcher, IsNotSuspectedOfASingleProcess) {
  EXPECT_EQ(others({}), "");
  EXPECT_EQ(others({{"OMPI_COMM_WORLD_SIZE", "1"}}), "");
  EXPECT_EQ(others({{"PMI_SIZE", "1"}}), "");
  EXPECT_EQ(others({{"PMIX_RANK", "0"}}), "");
  EXPECT_EQ(others({{"SLURM_STEP_NUM_TASKS", "1"}}), "");
  EXPECT_EQ(others({{"PMI_SIZE", "many"}, {"OMPI_COMM_WORLD_SIZE", ""}}), "");
}

TEST(Launcher, IsNotSuspectedInAScriptOfSbatch) {
  EXPECT_EQ(others({{"SLURM_JOB_ID", "7"},
                    {"SLURM_NTASKS", "16"},
                    {"SLURM_NPROCS", "16"},
                    {"SLURM_PROCID", "0"},
                    {"SLURM_TASKS_PER_NODE", "8(x2)"}}),
            "");
}

TEST(Launcher, IsNotSuspectedInAShellOfSrun) {
  EXPECT_EQ(others({{"SLURM_STEP_NUM_TASKS", "4"}, {"SLURM_PTY_PORT", "40001"}}), "");
}

/// mpirun starts its daemons on other hosts by srun, one a host, and they start the processes.
TEST(Launcher, WithinAStepOfSrunCounts) {
  EXPECT_EQ(others({{"SLURM_STEP_NUM_TASKS", "3"}, {"OMPI_COMM_WORLD_SIZE", "1"}}), "");
  EXPECT_EQ(others({{"SLURM_STEP_NUM_TASKS", "3"}, {"PMI_SIZE", "1"}}), "");
  EXPECT_THAT(others({{"SLURM_STEP_NUM_TASKS", "1"}, {"PMI_SIZE", "2"}}), HasSubstr("2 processes"));
}

/// Returns "2" for two ranks of this host, "2, first" to the first of them, "" where nothing tells.
std::string on_host(const Variables& variables) {
  const auto ranks = app::ranks_of_this_host(environment_of(variables));
  return ranks ? std::to_string(ranks->count) + (ranks->first ? ", first" : "") : "";
}

TEST(RanksOfHost, AreThoseThatTheLauncherCounts) {
  EXPECT_EQ(on_host({{"OMPI_COMM_WORLD_LOCAL_SIZE", "4"}, {"OMPI_COMM_WORLD_LOCAL_RANK", "0"}}),
            "4, first");
  EXPECT_EQ(on_host({{"OMPI_COMM_WORLD_LOCAL_SIZE", "4"}, {"OMPI_COMM_WORLD_LOCAL_RANK", "1"}}),
            "4");
  EXPECT_EQ(on_host({{"MPI_LOCALNRANKS", "3"}, {"MPI_LOCALRANKID", "0"}}), "3, first");
  EXPECT_EQ(on_host({{"MV2_COMM_WORLD_LOCAL_SIZE", "2"}, {"MV2_COMM_WORLD_LOCAL_RANK", "1"}}), "2");
}

TEST(RanksOfHost, AreReadInSlurmsListOfNodes) {
  const auto of_node = [](const std::string& node, const std::string& list) {
    return on_host(
        {{"SLURM_STEP_TASKS_PER_NODE", list}, {"SLURM_NODEID", node}, {"SLURM_LOCALID", "0"}});
  };
  EXPECT_EQ(of_node("0", "8"), "8, first");
  EXPECT_EQ(of_node("2", "2(x3),1"), "2, first");
  EXPECT_EQ(of_node("3", "2(x3),1"), "1, first");
  EXPECT_EQ(of_node("4", "2(x3),1"), "") << "there is no such node";
  EXPECT_EQ(of_node("1", "2,many"), "");
}

TEST(RanksOfHost, AreUnknownWithoutALauncher) {
  EXPECT_EQ(on_host({}), "");
  EXPECT_EQ(on_host({{"OMPI_COMM_WORLD_SIZE", "4"}}), "");
  EXPECT_EQ(on_host({{"SLURM_STEP_TASKS_PER_NODE", "4"},
                     {"SLURM_NODEID", "0"},
                     {"SLURM_LOCALID", "0"},
                     {"SLURM_PTY_PORT", "40001"}}),
            "");
}

TEST(RanksOfHost, OfMpirunWithinAStepOfSrunAreMpiruns) {
  EXPECT_EQ(on_host({{"SLURM_STEP_TASKS_PER_NODE", "1(x2)"},
                     {"SLURM_NODEID", "0"},
                     {"SLURM_LOCALID", "0"},
                     {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"},
                     {"OMPI_COMM_WORLD_LOCAL_RANK", "2"}}),
            "4");
}

std::string refusal(const Variables& variables, std::string_view library) {
  const auto strangers =
      app::find_strangers(1, environment_of(variables), library, "syncbn check --quick");
  return strangers ? strangers->problem + ". " + strangers->advice : "";
}

TEST(Strangers, AreToldBothMpisAndTheCommandThatStartsThemAsRanks) {
  EXPECT_THAT(
      refusal({{"PMI_SIZE", "3"}}, "Open MPI v4.1.4"),
      AllOf(HasSubstr("started as 3 processes by MPICH's mpiexec"), HasSubstr("PMI_SIZE=3"),
            HasSubstr("this build has Open MPI v4.1.4"), HasSubstr(" -n 3 syncbn check --quick`")));
  EXPECT_THAT(refusal({{"SLURM_STEP_NUM_TASKS", "8"}}, "Open MPI v4.1.4"),
              HasSubstr("`srun --mpi=pmix -n 8 syncbn check --quick`"));
  EXPECT_THAT(refusal({{"SLURM_STEP_NUM_TASKS", "8"}}, "MPICH Version 4.0.2"),
              HasSubstr("`srun --mpi=pmi2 -n 8 "));
  EXPECT_THAT(refusal({{"PMIX_RANK", "2"}}, "MPICH Version 4.0.2"), HasSubstr(" -n RANKS syncbn"));
  EXPECT_THAT(refusal({{"PMI_SIZE", "3"}}, ""), HasSubstr("build with -DSYNCBN_MPI=ON"));
}

TEST(Strangers, AreNotRanksThatKnowOfEachOtherNorASingleProcess) {
  EXPECT_FALSE(app::find_strangers(3, environment_of({{"PMI_SIZE", "3"}}), "MPICH", "syncbn"));
  EXPECT_EQ(refusal({}, "Open MPI v4.1.4"), "");
}

TEST(Strangers, AreFoundBeforeMpiStartsUnderTheLauncherOfAnother) {
  const auto are_found = [](const Variables& variables, std::string_view library) {
    return app::find_strangers_before_mpi(environment_of(variables), library, "syncbn check")
        .has_value();
  };
  const Variables open_mpi = {{"OMPI_COMM_WORLD_SIZE", "2"}};
  EXPECT_TRUE(are_found(open_mpi, "MPICH Version 5.0.2"));
  EXPECT_TRUE(are_found(open_mpi, "Intel(R) MPI Library 2021.18.1 for Linux* OS"));
  EXPECT_FALSE(are_found(open_mpi, "Open MPI v4.1.4"));
  EXPECT_FALSE(are_found(open_mpi, ""));
  EXPECT_FALSE(are_found({{"OMPI_COMM_WORLD_SIZE", "1"}}, "MPICH Version 5.0.2"));
  EXPECT_FALSE(are_found({{"PMI_SIZE", "2"}}, "MPICH Version 5.0.2"));
  EXPECT_FALSE(
      are_found({{"OMPI_COMM_WORLD_SIZE", "2"}, {"PMI_RANK", "0"}}, "MPICH Version 5.0.2"));
}

TEST(Strangers, AreFoundBeforeMpiStartsUnderSrunWithoutPmi) {
  const auto refusal_of = [](const Variables& variables, std::string_view library) {
    const auto found =
        app::find_ranks_without_pmi(environment_of(variables), library, "syncbn doctor");
    return found ? found->problem + ". " + found->advice : "";
  };
  const std::string open_mpi = "Open MPI v4.1.4";
  EXPECT_THAT(refusal_of({{"SLURM_STEP_NUM_TASKS", "8"}, {"SLURM_PROCID", "3"}}, open_mpi),
              AllOf(HasSubstr("started as 8 processes by srun"), HasSubstr("Open MPI v4.1.4"),
                    HasSubstr("`srun --mpi=pmix -n 8 syncbn doctor`"), HasSubstr("mpirun")));
  // srun speaks PMIx or PMI; mpirun has started these; a shell of srun; a single task.
  for (const auto& [variable, value] : Variables{{"PMIX_RANK", "0"},
                                                 {"PMI_RANK", "0"},
                                                 {"OMPI_COMM_WORLD_SIZE", "8"},
                                                 {"SLURM_PTY_PORT", "1"},
                                                 {"SLURM_STEP_NUM_TASKS", "1"}}) {
    Variables variables = {{"SLURM_STEP_NUM_TASKS", "8"}};
    variables[variable] = value;
    EXPECT_EQ(refusal_of(variables, open_mpi), "") << variable;
  }
  // These start as so many single processes, which find_strangers finds.
  EXPECT_EQ(refusal_of({{"SLURM_STEP_NUM_TASKS", "8"}}, "Open MPI v5.0.11"), "");
  EXPECT_EQ(refusal_of({{"SLURM_STEP_NUM_TASKS", "8"}}, "MPICH Version 4.0.2"), "");
  EXPECT_EQ(refusal_of({}, open_mpi), "");
}

bool is_first(const Variables& variables) {
  return app::find_strangers(1, environment_of(variables), "MPICH", "syncbn").value().first;
}

TEST(Strangers, HaveAFirstOne) {
  EXPECT_TRUE(is_first({{"PMI_SIZE", "2"}, {"PMI_RANK", "0"}}));
  EXPECT_FALSE(is_first({{"PMI_SIZE", "2"}, {"PMI_RANK", "1"}, {"SLURM_PROCID", "0"}}));
  // Open MPI sets PMIX_RANK where it starts alone.
  EXPECT_FALSE(
      is_first({{"SLURM_STEP_NUM_TASKS", "4"}, {"SLURM_PROCID", "3"}, {"PMIX_RANK", "0"}}));
  EXPECT_TRUE(is_first({{"SLURM_STEP_NUM_TASKS", "4"}}));
}

}  // namespace
}  // namespace syncbn::test
